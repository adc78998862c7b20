import { judge, expect, open, run, sizes } from './browser.js'

// A fleet of fifty, as an operator uses the page: node test/fifty.js URL TOKEN
const [url, token] = process.argv.slice(2)
const modes = { wide: 'power-save', narrow: 'max-accuracy' }

await run(async (browser) => {
  for (const [name, size] of Object.entries(sizes)) {
    const page = await open(browser, url, { size, expected: ['401'] })
    await page.getByText('50 devices').waitFor()
    await judge(page, 'the fleet')
    await filter(page)
    await openDevice(page)
    await steer(page, modes[name])
    await leave(page)
    await lookAtRollouts(page)
    await help(page)
    expect(page.scripts > 0 && page.scripts <= 200_000, `${page.scripts} bytes of script`)
    await page.context().close()
  }
})

async function filter(page) {
  await page.keyboard.press('/')
  await page.keyboard.type('device=sim-001*')
  await page.keyboard.press('Enter')
  await page.getByText('10 devices of 50').waitFor()
  await page.waitForFunction(() => document.querySelectorAll('.tile a').length === 10)
  await page.locator('#where').fill('site=berlin')
  await page.keyboard.press('Enter')
  await page.getByText('is none of device, group').waitFor()
  await judge(page, 'a filter that is wrong')
  await page.locator('#where').fill('device=sim-001*')
  await page.keyboard.press('Enter')
  await page.getByText('10 devices of 50').waitFor()
}

// openDevice goes from tile to tile by keys.
async function openDevice(page) {
  await page.locator('.tile a', { hasText: 'sim-0010' }).focus()
  await page.keyboard.press('ArrowRight')
  await page.waitForFunction(() => document.activeElement.textContent === 'sim-0011')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'sim-0011', level: 1 }).waitFor()
  await page.locator('.front svg .dot.operating').first().waitFor({ state: 'attached' })
  await page.locator('.series svg path.line').first().waitFor({ state: 'attached' })
  await judge(page, 'a device')
}

async function steer(page, mode) {
  await page.locator('#mode').selectOption(mode)
  await page.getByRole('button', { name: 'Set mode' }).click()
  await page.locator('#token').fill('not the token')
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.getByText('the token is wrong').waitFor()
  await judge(page, 'the question for the token')
  await page.locator('#token').fill(token)
  await page.getByRole('button', { name: 'Continue' }).click()
  await page.locator('.outcome.ok').waitFor()
  await page.locator('.pursues', { hasText: mode }).waitFor()
  await page.locator('.commands li', { hasText: mode }).first().waitFor()
  await judge(page, 'a device that was steered')
}

// leave comes back to where it came from.
async function leave(page) {
  await page.keyboard.press('Escape')
  await page.getByText('10 devices of 50').waitFor()
  await page.waitForFunction(() => document.querySelector('.tile a[tabindex="0"]')?.textContent === 'sim-0011')
}

async function lookAtRollouts(page) {
  await page.locator('h1').focus()
  await page.keyboard.press('r')
  await page.getByRole('link', { name: 'r-1' }).waitFor()
  await judge(page, 'the rollouts')
  await page.getByRole('link', { name: 'r-1' }).click()
  await page.getByRole('heading', { name: 'Phase 1 of 1' }).waitFor()
  await page.getByText('120 of 200 frames are known').waitFor()
  await page.getByRole('link', { name: 'cam-1' }).waitFor()
  await judge(page, 'a rollout that waits')
}

async function help(page) {
  await page.keyboard.press('?')
  await page.getByRole('heading', { name: 'Keys' }).waitFor()
  await judge(page, 'the help')
  await page.keyboard.press('Escape')
  await page.keyboard.press('f')
  await page.getByText('50 devices').waitFor()
}
