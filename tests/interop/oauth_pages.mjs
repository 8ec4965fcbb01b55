// Chromium walks the authorization page as the owner would. WALK holds {url, handle, password, untick, javascript, phone, dark, shots}.
import { createRequire } from 'node:module'
const { chromium } = createRequire(process.env.CLIENTS_DIR + '/package.json')('playwright-core')

const walk = JSON.parse(process.env.WALK)
const browser = await chromium.launch({ executablePath: process.env.BROWSER_PATH, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
const context = await browser.newContext({
  javaScriptEnabled: walk.javascript, colorScheme: walk.dark ? 'dark' : 'light',
  viewport: walk.phone ? { width: 360, height: 740 } : { width: 1280, height: 900 }, hasTouch: walk.phone, isMobile: walk.phone,
})
const page = await context.newPage()
const said = []
page.on('console', (m) => { if (m.type() === 'error') said.push(m.text()) })
const faults = []
async function look(name) {
  await page.screenshot({ path: `${walk.shots}/${name}.png`, fullPage: true })
  const found = await page.locator('input:not([type=hidden]), button, summary').evaluateAll((all) => all.map((e) => {
    const box = (e.type === 'checkbox' ? e.labels[0] : e).getBoundingClientRect()
    const named = e.tagName === 'BUTTON' || e.tagName === 'SUMMARY' ? e.textContent.trim() : e.labels?.[0]?.textContent.trim()
    return { what: e.outerHTML.slice(0, 80), height: Math.round(box.height), named: Boolean(named) }
  })).catch(() => [])
  for (const each of found) if (each.height < 44 || !each.named) faults.push({ name, ...each })
  const wide = await page.locator('html').evaluate((e) => e.scrollWidth > e.clientWidth + 1)
  if (wide) faults.push({ name, what: 'wider than the screen' })
}
try {
  await page.goto(walk.url)
  await look('sign-in')
  await page.getByLabel('Handle').fill(walk.handle)
  await page.getByLabel('Password').fill('not the password')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('is not right').first().waitFor()
  await look('sign-in-refused')
  await page.getByLabel('Password').fill(walk.password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('button', { name: 'Authorize' }).waitFor()
  await look('consent')
  for (const scope of walk.untick) await page.locator(`input[value="${scope}"]`).uncheck()
  await page.getByRole('button', { name: 'Authorize' }).click()
  if (walk.formPost && !walk.javascript) { await page.getByRole('button', { name: 'Continue' }).waitFor(); await look('form-post'); await page.getByRole('button', { name: 'Continue' }).click() }
  await page.getByText('back at the app').waitFor()
  console.log(JSON.stringify({ url: page.url(), said, faults }))
} catch (problem) {
  console.log(JSON.stringify({ error: String(problem), at: page.url(), text: (await page.content()).slice(0, 2000), said, faults }))
} finally { await browser.close() }
