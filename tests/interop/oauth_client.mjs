// @atproto/oauth-client-node under remote control: one JSON command a line on stdin, one JSON answer a line on stdout.
// CLIENT holds the client's metadata, KEY its private JWK if it is confidential, PLC_URL the directory.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(process.env.REF_DIR + '/package.json')
const { NodeOAuthClient } = await import(require.resolve('@atproto/oauth-client-node'))
const { JoseKey } = await import(require.resolve('@atproto/jwk-jose'))

const memory = () => { const m = new Map(); return { get: (k) => m.get(k), set: (k, v) => void m.set(k, v), del: (k) => void m.delete(k) } }
const sessionStore = memory()
const client = new NodeOAuthClient({
  clientMetadata: JSON.parse(process.env.CLIENT),
  ...(process.env.KEY ? { keyset: [await JoseKey.fromImportable(process.env.KEY)] } : {}),
  stateStore: memory(), sessionStore, allowHttp: true, plcDirectoryUrl: process.env.PLC_URL,
  handleResolver: { resolve: async () => null },
  requestLock: (_key, fn) => fn(),
})

const session = async (did, refresh = false) => client.restore(did, refresh)
const commands = {
  authorize: async ({ server, ...options }) => (await client.authorize(server, options)).href,
  callback: async ({ params }) => { const r = await client.callback(new URLSearchParams(params)); return { did: r.session.did, state: r.state, scope: (await r.session.getTokenInfo()).scope } },
  refresh: async ({ did }) => { const s = await session(did, true); return (await s.getTokenInfo()).scope },
  call: async ({ did, path, init }) => { const s = await session(did); const r = await s.fetchHandler(path, init); return { status: r.status, body: await r.text() } },
  signOut: async ({ did }) => { const s = await session(did); await s.signOut() },
  knows: async ({ did }) => (await sessionStore.get(did)) !== undefined,
}
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line)
  let answer
  try { answer = { ok: (await commands[name](given)) ?? null } } catch (problem) {
    const why = []
    for (let p = problem; p; p = p.cause) why.push(`${p.name}: ${p.message}`)
    answer = { error: why.join(' < ') }
  }
  console.log(JSON.stringify(answer))
}
