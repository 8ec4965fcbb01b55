// The reference PDS of npm @atproto/pds on PORT, with its data in DATA and its directory at PLC_URL. Prints "READY".
import fs from 'node:fs'
import { createRequire } from 'node:module'
const { REF_DIR, PORT, PLC_URL, DATA } = process.env
const load = (name) => import(createRequire(REF_DIR + '/package.json').resolve(name))
const { PDS } = await load('@atproto/pds')
const { Secp256k1Keypair } = await load('@atproto/crypto')
const keyFile = DATA + '/plc-rotation-key.hex'
if (!fs.existsSync(keyFile)) {
  fs.mkdirSync(DATA + '/blobs', { recursive: true })
  const key = await Secp256k1Keypair.create({ exportable: true })
  fs.writeFileSync(keyFile, Buffer.from(await key.export()).toString('hex'))
}
const server = await PDS.fromEnv({
  devMode: true,
  port: Number(PORT),
  dataDirectory: DATA,
  blobstoreDiskLocation: DATA + '/blobs',
  adminPassword: 'admin-pass',
  jwtSecret: 'jwt-secret',
  serviceHandleDomains: ['.test'],
  didPlcUrl: PLC_URL,
  plcRotationKeyK256PrivateKeyHex: fs.readFileSync(keyFile, 'utf8'),
  bskyAppViewUrl: 'https://appview.invalid',
  bskyAppViewDid: 'did:example:invalid',
  modServiceUrl: 'https://mod.invalid',
  modServiceDid: 'did:example:invalid',
  inviteRequired: false,
  disableSsrfProtection: true,
  rateLimitsEnabled: process.env.RATE_LIMITS === 'on',
  blobUploadLimit: 104857600,
})
await server.start()
console.log('READY')
