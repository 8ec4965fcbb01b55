// Answers questions about keys, signatures, service tokens and DID documents with npm @atproto/*: one JSON array of
// [function, ...arguments] on stdin, one JSON array of answers on stdout; an exception answers { error }.
import { createRequire } from 'node:module'
const load = (name) => import(createRequire(process.env.REF_DIR + '/package.json').resolve(name))
const crypto = await load('@atproto/crypto')
const identity = await load('@atproto/identity')
const { createServiceJwt, verifyJwt } = await load('@atproto/xrpc-server')
const bytes = (hex) => new Uint8Array(Buffer.from(hex, 'hex'))
const hex = (data) => Buffer.from(data).toString('hex')
const kinds = { ES256K: crypto.Secp256k1Keypair, ES256: crypto.P256Keypair }
const keypair = (alg, secret) => kinds[alg].import(bytes(secret))
const answers = {
  did_key: async (alg, secret) => (await keypair(alg, secret)).did(),
  sign: async (alg, secret, message) => hex(await (await keypair(alg, secret)).sign(bytes(message))),
  verify: (didKey, message, signature) => crypto.verifySignature(didKey, bytes(message), bytes(signature)),
  mint: async (alg, secret, params) => createServiceJwt({ ...params, keypair: await keypair(alg, secret) }),
  check: (token, aud, lxm, didKey) => verifyJwt(token, aud, lxm, async () => didKey),
  read_document: (document) => identity.parseToAtprotoDocument(document),
}
let input = ''
for await (const chunk of process.stdin) input += chunk
const results = []
for (const [name, ...args] of JSON.parse(input)) {
  try {
    results.push((await answers[name](...args)) ?? null)
  } catch (error) {
    results.push({ error: error.customErrorName ?? error.message })
  }
}
console.log(JSON.stringify(results))
