import { createInterface } from 'node:readline'
import { judge, open, run, sizes } from './browser.js'

// What the page says where there is nothing to see. Who runs this empties the broker, and
// takes it away when asked to, a line on standard output each; a line comes back once it is
// done. node test/trouble.js URL
const [url] = process.argv.slice(2)
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

async function ask(what) {
  console.log(what)
  await answers.next()
}

await run(async (browser) => {
  const pages = []
  for (const size of Object.values(sizes)) {
    pages.push(await open(browser, url, { size, expected: ['ERR_', '502'] }))
  }
  await each(pages, 'an empty fleet', 'No device has told this broker of itself yet')
  await ask('lose the broker')
  await each(pages, 'a lost broker', 'No connection to the broker')
  await ask('bring the broker back')
  for (const page of pages) await page.getByText('No connection to the broker').waitFor({ state: 'detached' })
  await ask('have a device there')
  for (const page of pages) {
    await page.getByRole('link', { name: 'constructor' }).click()
    await page.locator('.front svg .dot').first().waitFor({ state: 'attached' })
  }
  for (const page of pages) {
    const line = page.locator('.series svg path.line')
    // The server takes the newest of what comes at once, and nobody keeps telemetry.
    while ((await line.count()) === 0) {
      await ask('let it say what cannot be')
      await page.waitForTimeout(300)
    }
    await judge(page, 'a device that says what cannot be')
  }
  await ask('end the server')
  await each(pages, 'a lost server', 'limber dash does not answer')
})

async function each(pages, screen, text) {
  for (const page of pages) {
    await page.getByText(text).waitFor()
    await judge(page, screen)
  }
}
