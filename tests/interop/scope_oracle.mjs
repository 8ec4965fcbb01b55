// Answers of npm @atproto/oauth-scopes: [[scopes], [[resource, options]...], [[include, permission set]...]] on stdin.
import { createRequire } from 'node:module'
const s = await import(createRequire(process.env.REF_DIR + '/package.json').resolve('@atproto/oauth-scopes'))
const [scopes, questions, sets] = JSON.parse(await new Promise((r) => { let t = ''; process.stdin.on('data', (c) => { t += c }).on('end', () => r(t)) }))
const known = (x) => { try { return s.isAtprotoOauthScope(x) } catch { return false } }
const allows = (scope, [resource, options]) => {
  try {
    const p = new s.ScopePermissionsTransition(['atproto', scope])
    return p['allows' + resource[0].toUpperCase() + resource.slice(1)](options)
  } catch { return false }
}
console.log(JSON.stringify({
  known: scopes.map(known),
  allows: scopes.map((x) => questions.map((q) => allows(x, q))),
  sets: sets.map(([include, set]) => s.IncludeScope.fromString(include).toScopes(set)),
}))
