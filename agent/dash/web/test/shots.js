import { open, run } from './browser.js'

// Pictures of one screen for eyes: node test/shots.js URL FOLDER NAME [#ROUTE [HEIGHT]]
const [url, folder, name, route = '', full = ''] = process.argv.slice(2)

await run(async (browser) => {
  for (const [width, height] of [[1280, 800], [390, 844]]) {
    for (const scheme of ['light', 'dark']) {
      const page = await open(browser, url + route, { size: { width, height }, scheme, expected: ['ERR_'] })
      await page.waitForTimeout(1500)
      await page.screenshot({ path: `${folder}/${name}-${width}-${scheme}.png`, fullPage: full !== '' })
      const needs = await page.evaluate(() => document.documentElement.scrollWidth)
      if (needs > width) console.log(`${name}: sideways ${needs} at ${width}`)
      await page.context().close()
    }
  }
})
