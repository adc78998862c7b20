import { open, run } from './browser.js'

// The picture of a screen, for the README: node test/picture.js URL FILE
const [url, file] = process.argv.slice(2)

await run(async (browser) => {
  const page = await open(browser, url, { size: { width: 1280, height: 1000 } })
  await page.locator('.series svg path.line').first().waitFor({ state: 'attached' })
  await page.screenshot({ path: file, type: 'png' })
})
