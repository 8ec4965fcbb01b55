// The same page made with @atcute/oauth-browser-client, as pdsls and many web tools are.
import { OAuthUserAgent, configureOAuth, createAuthorizationUrl, finalizeAuthorization, getSession } from '@atcute/oauth-browser-client'
import { CompositeDidDocumentResolver, LocalActorResolver, PlcDidDocumentResolver } from '@atcute/identity-resolver'

const { client, plcUrl } = JSON.parse(document.getElementById('APP').textContent)
configureOAuth({
  metadata: { client_id: client.client_id, redirect_uri: client.redirect_uris[0] },
  identityResolver: new LocalActorResolver({
    handleResolver: { resolve: async () => { throw new Error('no handles here') } },
    didDocumentResolver: new CompositeDidDocumentResolver({ methods: { plc: new PlcDidDocumentResolver({ apiUrl: plcUrl }) } }),
  }),
})
const params = new URLSearchParams(location.hash.slice(1))
let agent = null
if (params.has('state')) {
  history.replaceState(null, '', location.pathname)
  agent = new OAuthUserAgent((await finalizeAuthorization(params)).session)
}
window.app = {
  did: agent?.sub ?? null,
  signIn: async (serviceUrl) => { location.assign(await createAuthorizationUrl({ target: { type: 'pds', serviceUrl }, scope: client.scope })) },
  scope: async () => agent.session.token.scope,
  refresh: async () => { const s = await getSession(agent.sub, { noCache: true }); agent = new OAuthUserAgent(s); return s.token.scope },
  call: async (path, init) => { const r = await agent.handle(path, init); return { status: r.status, body: await r.text() } },
  signOut: () => agent.signOut(),
}
