import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

// What every look at the page has in common: Debian's chromium, and a page on which
// nothing may go wrong.

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export const patience = 40_000 // ms

export const sizes = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 844 } }

let complaints = 0

export function complain(text) {
  complaints++
  console.error(text)
}

export function expect(holds, text) {
  if (!holds) complain(text)
}

// run has a browser for a while. The process fails if anybody complained.
export async function run(look) {
  const browser = await chromium.launch({
    executablePath: process.env.LIMBER_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  })
  try {
    await look(browser)
  } catch (err) {
    complain(err.stack)
  } finally {
    await browser.close()
  }
  process.exit(complaints > 0 ? 1 : 0)
}

// open opens the page as somebody does who has never seen it, and watches what it does:
// an error it logs, another host it asks, the script that it loads.
export async function open(browser, url, { size, scheme = 'light', expected = [], host = url }) {
  const context = await browser.newContext({
    viewport: size,
    colorScheme: scheme,
    reducedMotion: 'reduce',
    deviceScaleFactor: 1,
  })
  const page = await context.newPage()
  page.setDefaultTimeout(patience)
  page.scripts = 0
  page.origin = new URL(host).origin
  page.on('console', (m) => {
    if (m.type() === 'error' && !expected.some((e) => m.text().includes(e)))
      complain(`console at ${size.width} px: ${m.text()}`)
  })
  page.on('pageerror', (err) => complain(`page at ${size.width} px: ${err.stack}`))
  page.on('request', (r) => expect(r.url().startsWith(page.origin), `another host is asked: ${r.url()}`))
  page.on('response', async (r) => {
    if (r.request().resourceType() === 'script') page.scripts += (await r.body()).length
  })
  await page.goto(url)
  return page
}

// judge looks at a screen as it is now.
export async function judge(page, screen) {
  const { width } = page.viewportSize()
  const needs = await page.evaluate(() => document.documentElement.scrollWidth)
  expect(needs <= width, `${screen} scrolls sideways: ${needs} px at ${width}`)
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`)
  for (const v of found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')) {
    const where = v.nodes.map((n) => `\n  ${n.html}\n  ${n.failureSummary}`).join('')
    complain(`${screen} at ${width} px: axe: ${v.id}: ${v.help}${where}`)
  }
}
