// Chromium walks the authorization page as the owner would, then looks at every other page of it. WALK holds
// {url, handle, password, code, untick, others, javascript, phone, dark, formPost, shots}.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
const require = createRequire(process.env.CLIENTS_DIR + '/package.json')
const { chromium } = require('playwright-core')
const axeSource = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

const walk = JSON.parse(process.env.WALK)
const browser = await chromium.launch({ executablePath: process.env.BROWSER_PATH, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
const view = {
  colorScheme: walk.dark ? 'dark' : 'light', hasTouch: walk.phone, isMobile: walk.phone,
  viewport: walk.phone ? { width: 360, height: 740 } : { width: 1280, height: 900 },
}
const context = await browser.newContext({ ...view, javaScriptEnabled: walk.javascript })
context.setDefaultTimeout(15000)
const page = await context.newPage()
const copy = walk.javascript ? null : await (await browser.newContext(view)).newPage()
const out = { pages: 0, violations: [], faults: [], blocked: [] }
page.on('console', (m) => { if (/Content Security Policy|Refused to/.test(m.text())) out.blocked.push(m.text()) })
page.on('pageerror', (e) => out.blocked.push(String(e)))

async function look(name) {
  out.pages += 1
  await page.screenshot({ path: `${walk.shots}/${name}.png`, fullPage: true })
  const measured = await page.locator('input:not([type=hidden]), button, summary, a.button').evaluateAll((all) => all.filter((e) => e.offsetParent).map((e) => {
    const box = (e.type === 'checkbox' ? e.labels[0] : e).getBoundingClientRect()
    const named = ['BUTTON', 'SUMMARY', 'A'].includes(e.tagName) ? e.textContent.trim() : e.labels?.[0]?.textContent.trim()
    return { what: e.outerHTML.slice(0, 80), height: Math.round(box.height), named: Boolean(named) }
  }))
  for (const each of measured) if (each.height < 44 || !each.named) out.faults.push({ name, ...each })
  if (await page.locator('html').evaluate((e) => e.scrollWidth > e.clientWidth + 1)) out.faults.push({ name, what: 'wider than the screen' })
  const judged = copy ? await copied() : page
  await judged.evaluate(axeSource)
  const { violations } = await judged.evaluate((rules) => axe.run(document, { runOnly: rules }), RULES)
  for (const one of violations) out.violations.push({ page: name, id: one.id, impact: one.impact, where: one.nodes.map((node) => node.html.slice(0, 160)) })
}
// axe needs scripts: where they are off it gets the page as it stands, in a browser where only axe's run.
async function copied() {
  const [body, url] = [await page.content(), page.url()]
  const headers = { 'content-security-policy': "script-src 'none'" }
  await copy.unrouteAll()
  await copy.route((u) => u.href === url, (route) => route.fulfill({ contentType: 'text/html; charset=utf-8', headers, body }))
  await copy.goto(url)
  return copy
}
const press = (name) => page.getByRole('button', { name, exact: true }).click()
try {
  await page.goto(walk.url)
  await look('sign-in')
  await page.getByLabel('Handle').fill(walk.handle)
  await page.getByLabel('Password').fill('not the password')
  await press('Sign in')
  await page.getByText('is not right').first().waitFor()
  await look('sign-in-refused')
  await page.getByLabel('Password').fill(walk.password)
  await press('Sign in')
  await page.locator('#code').waitFor()
  await look('second-factor')
  await page.locator('#code').fill('000000')
  await press('Sign in')
  await page.getByText('is not right').first().waitFor()
  await look('second-factor-refused')
  await page.locator('#code').fill(walk.code)
  await press('Sign in')
  await page.getByRole('button', { name: 'Authorize' }).waitFor()
  await look('consent')
  for (const scope of walk.untick) await page.locator(`input[value="${scope}"]`).uncheck()
  const authorize = page.getByRole('button', { name: 'Authorize' })
  await (walk.javascript ? authorize.dblclick() : authorize.click())  // as hasty people do
  if (walk.formPost && !walk.javascript) {
    await page.getByRole('button', { name: 'Continue' }).waitFor()
    await look('form-post')
    await press('Continue')
  }
  await page.getByText('back at the app').waitFor()
  for (const [name, url] of Object.entries(walk.others)) {
    await page.goto(url)
    for (const closed of await page.locator('summary').all()) await closed.click()
    await look(name)
  }
} catch (problem) {
  out.error = String(problem)
  out.at = page.url()
  out.text = (await page.content()).slice(0, 2000)
} finally { await browser.close() }
console.log(JSON.stringify(out))
