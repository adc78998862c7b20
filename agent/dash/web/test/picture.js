import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { open, run } from './browser.js'

// The picture for the README: the demo as its own page shows it, once the load has come and
// gone. node test/picture.js PROGRAM FILE
const [program, file] = process.argv.slice(2)
const quiet = 20 // s
const busy = 20

await run(async (browser) => {
  const demo = spawn(program, ['demo', '--page', '--quiet', `${quiet}s`, '--busy', `${busy}s`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  try {
    const page = await open(browser, await address(demo.stderr), { size: { width: 1280, height: 2000 } })
    page.setDefaultTimeout(120_000)
    await page.locator('.commands li:first-child', { hasText: 'balanced' }).waitFor() // what it plans by is measured
    await page.waitForTimeout(1000 * (quiet + busy + 8))
    writeFileSync(file, await webp(page, await page.screenshot({ clip: await whole(page) })))
  } finally {
    demo.kill('SIGINT')
  }
})

async function address(stderr) {
  for await (const line of createInterface({ input: stderr })) {
    const said = /look at it at (\S+)/.exec(line)
    if (said) return said[1]
  }
  throw new Error('the demo did not say where its page is')
}

// whole ends below the lines over time.
async function whole(page) {
  const { y, height } = await page.locator('.over-time').boundingBox()
  return { x: 0, y: 0, width: 1280, height: Math.ceil(y + height + 12) }
}

// webp has a third of the bytes, and is what the browser can write.
async function webp(page, png) {
  const url = await page.evaluate(async (base64) => {
    const image = new Image()
    image.src = 'data:image/png;base64,' + base64
    await image.decode()
    const canvas = document.createElement('canvas')
    canvas.width = image.width
    canvas.height = image.height
    canvas.getContext('2d').drawImage(image, 0, 0)
    return canvas.toDataURL('image/webp', 0.85)
  }, png.toString('base64'))
  return Buffer.from(url.split(',')[1], 'base64')
}
