// A linear axis: where a value is, and the round values that are written beside it.
export interface Scale {
  at(v: number): number
  ticks: number[]
  digits: number // behind the point, of a tick
}

export function linear(least: number, most: number, from: number, to: number, about = 4): Scale {
  if (!(most > least)) most = least + 1
  const step = nice((most - least) / about)
  const first = Math.floor(least / step) * step
  const last = Math.ceil(most / step - 1e-9) * step
  const ticks: number[] = []
  for (let i = 0; first + i * step <= last + step / 2; i++) ticks.push(first + i * step)
  return {
    at: (v) => from + ((v - first) / (last - first)) * (to - from),
    ticks,
    digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)),
  }
}

function nice(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step))
  const f = step / power
  return (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10) * power
}
