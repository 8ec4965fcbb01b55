// Chromium opens an app's page, signs in at the box and uses it. WALK holds
// {app, server, password, untick, post, like, popup}.
import { createRequire } from 'node:module'
const { chromium } = createRequire(process.env.CLIENTS_DIR + '/package.json')('playwright-core')

const walk = JSON.parse(process.env.WALK)
const browser = await chromium.launch({ executablePath: process.env.BROWSER_PATH, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
const context = await browser.newContext()
const page = await context.newPage()
const said = []
page.on('console', (m) => { if (m.type() === 'error') said.push(m.text()) })
page.on('pageerror', (e) => said.push(String(e)))
const ready = () => page.waitForFunction(() => window.app)
const call = (path, body) => page.evaluate(([p, b]) => window.app.call(p, b ? { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(b) } : { method: 'GET' }), [path, body])
try {
  await page.goto(walk.app); await ready()
  await page.evaluate((server) => { window.app.signIn(server) }, walk.server)
  await page.getByLabel('Password').fill(walk.password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Authorize' }).waitFor()
  for (const scope of walk.untick) await page.locator(`input[value="${scope}"]`).uncheck()
  await page.getByRole('button', { name: 'Authorize' }).click()
  await page.waitForURL((u) => u.href.startsWith(walk.app)); await ready()
  const out = { did: await page.evaluate(() => window.app.did), scope: await page.evaluate(() => window.app.scope()) }
  const write = '/xrpc/com.atproto.repo.createRecord'
  out.post = await call(write, { repo: out.did, ...walk.post })
  out.like = await call(write, { repo: out.did, ...walk.like })
  out.refreshed = await page.evaluate(() => window.app.refresh())
  out.again = await call(write, { repo: out.did, ...walk.post })
  const account = await context.newPage()
  await account.goto(walk.server + '/account/apps')
  await account.getByRole('button', { name: 'Sign out' }).first().click()
  await account.getByText('None. Apps that sign in').waitFor()
  out.revoked = await call(write, { repo: out.did, ...walk.post })
  await page.goto(walk.app); await ready()
  await page.evaluate((server) => { window.app.signIn(server) }, walk.server)
  await page.getByRole('button', { name: 'Authorize' }).click()
  await page.waitForURL((u) => u.href.startsWith(walk.app)); await ready()
  await page.evaluate(() => window.app.signOut())
  if (walk.popup) {
    await page.goto(walk.app); await ready()
    const opened = page.waitForEvent('popup')
    const done = page.evaluate((server) => window.app.signInPopup(server), walk.server)
    await (await opened).getByRole('button', { name: 'Authorize' }).click()
    out.popup = await done
    await page.evaluate(() => window.app.signOut())
  }
  console.log(JSON.stringify({ ...out, said }))
} catch (problem) {
  console.log(JSON.stringify({ error: String(problem), at: page.url(), said }))
} finally { await browser.close() }
