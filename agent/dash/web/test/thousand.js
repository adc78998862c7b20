import { expect, open, run, sizes } from './browser.js'

// A fleet of a thousand that all measure: no task may keep the page from answering, and
// what is not on the screen is not drawn. node test/thousand.js URL
const [url] = process.argv.slice(2)

// longest is what a task may take of a processor, in ms: how long it takes by the clock
// depends on what else this machine does.
const longest = 100

await run(async (browser) => {
  for (const size of Object.values(sizes)) {
    const page = await open(browser, 'about:blank', { size, host: url })
    await browser.startTracing(page, { categories: ['toplevel'] })
    await page.goto(url)
    await page.getByText('1,000 devices').waitFor()
    await scroll(page)
    await page.locator('#where').fill('device=cam-05*')
    await page.keyboard.press('Enter')
    await page.getByText('100 devices of 1,000').waitFor()
    await page.locator('.tile a', { hasText: 'cam-0507' }).click()
    await page.locator('.front svg').waitFor()
    await page.waitForTimeout(1000)
    await page.goBack()
    await page.getByText('100 devices of 1,000').waitFor()
    const { processor, clock } = worst(JSON.parse(await browser.stopTracing()))
    const times = `${processor.toFixed(0)} ms of a processor, ${clock.toFixed(0)} ms by the clock`
    console.log(`${size.width} px: the longest task took ${times}`)
    expect(processor <= longest, `a task took ${processor} ms of a processor at ${size.width} px`)
    await page.context().close()
  }
})

async function scroll(page) {
  const height = await page.evaluate(() => document.documentElement.scrollHeight)
  for (let n = 0; n <= 20; n++) {
    await page.evaluate((to) => scrollTo(0, to), (n * height) / 20)
    await page.waitForTimeout(50)
  }
  await page.locator('.tile a', { hasText: 'cam-0999' }).waitFor()
  const drawn = await page.locator('.tile').count()
  expect(drawn < 250, `${drawn} tiles are drawn at once`)
  await page.evaluate(() => scrollTo(0, 0))
}

// worst are the longest tasks of the threads that run pages, in ms.
function worst({ traceEvents }) {
  const mains = traceEvents
    .filter((e) => e.name === 'thread_name' && e.args.name === 'CrRendererMain')
    .map((e) => `${e.pid} ${e.tid}`)
  const tasks = traceEvents.filter(
    (e) => e.name === 'ThreadControllerImpl::RunTask' && mains.includes(`${e.pid} ${e.tid}`),
  )
  expect(tasks.length > 100, `${tasks.length} tasks were traced`)
  const most = (of) => Math.max(...tasks.map(of)) / 1000
  return { processor: most((e) => e.tdur ?? 0), clock: most((e) => e.dur ?? 0) }
}
