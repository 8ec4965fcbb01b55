// The page of an app made with @atproto/oauth-client-browser: window.app, once it is ready. APP holds {client, plcUrl}.
import { BrowserOAuthClient } from '@atproto/oauth-client-browser'

const { client: clientMetadata, plcUrl } = JSON.parse(document.getElementById('APP').textContent)
const client = new BrowserOAuthClient({ clientMetadata, plcDirectoryUrl: plcUrl, allowHttp: true, handleResolver: { resolve: async () => null } })
let found = await client.init()
const session = () => found.session
window.app = {
  did: found?.session?.did ?? null,
  signIn: (server) => client.signInRedirect(server),
  signInPopup: async (server) => { found = { session: await client.signInPopup(server) }; return session().did },
  scope: async () => (await session().getTokenInfo()).scope,
  refresh: async () => (await session().getTokenInfo(true)).scope,
  call: async (path, init) => { const r = await session().fetchHandler(path, init); return { status: r.status, body: await r.text() } },
  signOut: () => session().signOut(),
}
