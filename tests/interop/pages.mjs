// Drives the pages of a box in real Chromium:  node pages.mjs REF_DIR URL HANDLE PASSWORD SCREENSHOTS
// Prints one line of JSON with what it found; tests/interop/test_pages.py judges it.
import { createRequire } from "node:module"
import { createHash, createHmac } from "node:crypto"
import { readFileSync } from "node:fs"

const [refDir, url, handle, password, folder] = process.argv.slice(2)
const require = createRequire(`${refDir}/package.json`)
const { chromium } = require("playwright-core")
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8")

const SECTIONS = ["", "apps", "security", "address", "email", "codes", "data", "danger", "log"]
const VIEWS = {
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
  desktop: { viewport: { width: 1280, height: 900 } },
}
const found = { violations: [], wide: [], small: [], blocked: [], pages: 0, passed: [], bytes: {} }

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update"],
})

async function open(view, scheme, javaScriptEnabled) {
  const context = await browser.newContext({ ...VIEWS[view], colorScheme: scheme, javaScriptEnabled, baseURL: url })
  context.setDefaultTimeout(15000)
  const page = await context.newPage()
  page.on("console", message => { if (/Content Security Policy/i.test(message.text())) found.blocked.push(message.text()) })
  page.on("pageerror", problem => found.blocked.push(String(problem)))
  return page
}

async function signIn(page, path = "/account") {
  await page.goto(path)
  await page.fill("#username", handle)
  await page.fill("#password", password)
  await page.click("#sign-in button")
}

async function look(page, name) {
  found.pages += 1
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true })
  const measured = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    small: [...document.querySelectorAll("button, input:not([type=hidden]):not([type=checkbox]), nav a, a.button, summary, .choice label")]
      .filter(one => one.offsetParent && one.getBoundingClientRect().height < 43.5)
      .map(one => one.outerHTML.slice(0, 80)),
  }))
  if (measured.wide) found.wide.push(name)
  for (const one of measured.small) found.small.push(`${name}: ${one}`)
}

async function judge(page, name) {
  await page.evaluate(axeSource)
  const { violations } = await page.evaluate(() => axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }))
  for (const one of violations)
    found.violations.push({ page: name, id: one.id, impact: one.impact, where: one.nodes.map(node => node.html.slice(0, 160)) })
}

function expect(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`)
  found.passed.push(what)
}

function code(secret, step) {
  const bits = [...secret.replaceAll(" ", "")].map(letter => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter).toString(2).padStart(5, "0")).join("")
  const key = Buffer.from(bits.match(/.{8}/g).map(byte => parseInt(byte, 2)))
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(step))
  const digest = createHmac("sha1", key).update(counter).digest()
  return String((digest.readUInt32BE(digest[19] & 15) & 0x7fffffff) % 1e6).padStart(6, "0")
}

async function everySection(view, scheme) {
  const page = await open(view, scheme, true)
  await page.goto("/account/sign-in")
  await look(page, `sign-in-${view}-${scheme}`)
  await judge(page, `sign-in ${view} ${scheme}`)
  await signIn(page)
  for (const section of [...SECTIONS, "authenticator", "passkey"]) {
    const answer = await page.goto(`/account/${section}`.replace(/\/$/, ""))
    found.bytes[section] = (await answer.body()).length
    await look(page, `${section || "overview"}-${view}-${scheme}`)
    await judge(page, `${section || "overview"} ${view} ${scheme}`)
  }
  await page.context().close()
}

// Everything but passkeys, with JavaScript switched off.
async function withoutJavaScript() {
  const page = await open("phone", "light", false)
  await page.goto("/account/security")
  await page.fill("#username", handle)
  await page.fill("#password", "wrong")
  await page.click("#sign-in button")
  await look(page, "refused-phone-light")
  expect(await page.evaluate(() => document.activeElement.id === "problem"), "the summary of a problem has the focus")
  await page.fill("#password", password)
  await page.keyboard.press("Enter")
  await page.waitForURL("**/account/security")
  expect(await page.isVisible("h1:has-text('Security')"), "signed in and back at the section asked for, by keyboard")

  await page.goto("/account/authenticator")
  const secret = await page.textContent(".secret")
  const step = Math.floor(Date.now() / 30000)
  await page.fill("#code", code(secret, step))
  await page.click("text=Switch it on")
  await look(page, "recovery-codes-phone-light")
  const recovery = await page.locator(".secrets li").allTextContents()
  expect(recovery.length === 10, "ten recovery codes")
  await page.click("text=I have them")
  await look(page, "security-with-factor-phone-light")
  await page.goto("/account")
  await page.click("text=Sign out of this browser")
  await signIn(page)
  await look(page, "asks-code-phone-light")
  await page.fill("#code", recovery[0].toLowerCase())
  await page.click("#sign-in button")
  await page.waitForURL("**/account")
  expect(await page.isVisible(".status"), "signed in with a recovery code")
  await page.goto("/account/security")
  await page.click("text=Switch the second factor off")
  expect(await page.isVisible("text=The second factor is off"), "the second factor is off again")

  await page.goto("/account/apps")
  await page.fill("#name", "Browser test")
  await page.click("text=Make an app password")
  await look(page, "app-password-phone-light")
  const made = (await page.textContent(".secret")).trim()
  const session = await fetch(`${url}/xrpc/com.atproto.server.createSession`, {
    method: "POST", headers: { "content-type": "application/json", "user-agent": "Interop/1" },
    body: JSON.stringify({ identifier: handle, password: made }),
  })
  expect(session.status === 200, "the app password signs an app in")
  const { accessJwt } = await session.json()
  await page.goto("/account/apps")
  await look(page, "apps-with-session-phone-light")
  await page.click("button[aria-label='Take back Browser test']")
  const after = await fetch(`${url}/xrpc/com.atproto.server.getSession`, { headers: { authorization: `Bearer ${accessJwt}` } })
  expect(after.status === 400, "taken back, the app is out")

  await page.goto("/account/danger")
  await page.fill("#deactivate-handle", "wrong")
  await page.click("text=Deactivate the account")
  expect(await page.evaluate(() => document.activeElement.id === "problem"), "a wrong handle is said in the summary")
  expect(await page.getAttribute("#deactivate-handle", "aria-invalid") === "true", "and at the field")
  await look(page, "danger-refused-phone-light")
  const waiting = page.waitForEvent("download")
  await page.goto("/account/data")
  await page.click("text=Download your repository")
  const download = await waiting
  expect(download.suggestedFilename() === `${handle}.car`, "the repository is downloaded")
  await page.context().close()
}

async function passkey() {
  const page = await open("desktop", "light", true)
  const devtools = await page.context().newCDPSession(page)
  await devtools.send("WebAuthn.enable")
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true,
      isUserVerified: true, automaticPresenceSimulation: true },
  })
  await signIn(page)
  await page.goto("/account/passkey")
  await page.fill("#name", "Test device")
  await page.click("#passkey button")
  await page.waitForURL("**/account/security?done=passkey")
  await look(page, "security-with-passkey-desktop-light")
  const { credentials } = await devtools.send("WebAuthn.getCredentials", { authenticatorId })
  expect(credentials.length === 1 && credentials[0].rpId === "localhost", "the passkey is bound to the host name")
  await page.goto("/account")
  await page.click("text=Sign out of this browser")
  await page.check("#remember")
  await page.click("text=Sign in with a passkey")
  await page.waitForURL("**/account")
  const cookies = await page.context().cookies()
  expect(cookies.find(cookie => cookie.name.endsWith("session")).expires > 0, "the passkey keeps this device signed in")
  expect(await page.isVisible(".status"), "signed in with the passkey alone")
  await page.click("text=Sign out of this browser")
  await page.goto(await authorizationPage())
  await look(page, "oauth-sign-in-with-passkey-desktop-light")
  await page.click("text=Sign in with a passkey")
  await page.waitForSelector("#consent")
  expect(true, "a passkey signs in to let an app in")
  await page.goto("/account")
  await page.click("text=Sign out of this browser")
  await devtools.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: false })
  await page.click("text=Sign in with a passkey")
  await page.waitForSelector("#passkey .wrong:not(:empty)")
  expect(await page.isVisible("#sign-in"), "without the device's lock nobody gets in")
  await devtools.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified: true })
  await look(page, "passkey-refused-desktop-light")
  await signIn(page)
  await page.goto("/account/security")
  await page.click("button[aria-label='Remove Test device']")
  expect(await page.isVisible("text=The passkey is gone"), "the passkey is removed")
  await page.context().close()
}

// Where an app on this device sends its user.
async function authorizationPage() {
  const scope = "atproto transition:generic repo:app.bsky.feed.post blob:image/* identity:handle"
  const client_id = `http://localhost?${new URLSearchParams({ redirect_uri: "http://127.0.0.1/callback", scope })}`
  const pushed = await fetch(`${url}/oauth/par`, {
    method: "POST",
    body: new URLSearchParams({
      client_id, scope, redirect_uri: "http://127.0.0.1:1/callback", response_type: "code", state: "s",
      code_challenge: createHash("sha256").update(String(Math.random())).digest("base64url"), code_challenge_method: "S256",
    }),
  })
  const { request_uri } = await pushed.json()
  return `/oauth/authorize?${new URLSearchParams({ client_id, request_uri })}`
}

async function consent() {
  const page = await open("phone", "dark", true)
  await page.goto(await authorizationPage())
  await look(page, "oauth-sign-in-phone-dark")
  await page.fill("#username", handle)
  await page.fill("#password", password)
  await page.click("#sign-in button")
  await page.waitForSelector("#consent")
  await look(page, "consent-phone-dark")
  await judge(page, "consent")
  expect(await page.isVisible("button[value=accept]"), "the consent page is shown")
  await page.context().close()
}

try {
  for (const view of ["phone", "desktop"]) for (const scheme of ["light", "dark"]) await everySection(view, scheme)
  await withoutJavaScript()
  await passkey()
  await consent()
} catch (problem) {
  found.failure = String(problem.stack ?? problem)
} finally {
  await browser.close()
}
console.log(JSON.stringify(found))
