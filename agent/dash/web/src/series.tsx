import { useRef, useState } from 'preact/hooks'
import { linear, type Scale } from './scale'
import { useWidth } from './width'
import { clock, duration } from './words'

// Panels of one device over one time, each with a line or two, and what happened in all of
// them: a switch is a line through every panel, so that its reason is seen above it.

export interface Line {
  name: string
  values: (number | null)[]
  look: 'first' | 'second' | 'third'
  say: (v: number | null | undefined) => string
}

export interface Panel {
  title: string
  unit: string
  lines: Line[]
  least?: number // what the axis has in any case
  most?: number
  limit?: { value: number; name: string } // drawn where it is near
  steps?: string[] // names of the values 0, 1, ...: the line goes in steps
}

export interface Switch {
  t: number // ms since 1970
  text: string
}

const left = 64
const right = 12
const foot = 18

export function Series({ t, panels, switches }: { t: number[]; panels: Panel[]; switches: Switch[] }) {
  const { ref, width } = useWidth<HTMLDivElement>()
  const [at, setAt] = useState<number | null>(null)
  const shown = useRef<{ x: (t: number) => number }>(null)
  if (t.length < 2) {
    return (
      <div ref={ref} class="muted">
        Telemetry comes every few seconds; the lines begin with its second message.
      </div>
    )
  }
  const from = t[0]!
  const to = t[t.length - 1]!
  const x = (v: number) => left + ((v - from) / (to - from)) * (width - left - right)
  shown.current = { x }
  const move = (e: PointerEvent) => {
    const box = (e.currentTarget as Element).getBoundingClientRect()
    setAt(nearest(t, from + ((e.clientX - box.left - left) / (box.width - left - right)) * (to - from)))
  }
  const index = at == null ? t.length - 1 : Math.min(at, t.length - 1)
  return (
    <div ref={ref} class="series" onPointerMove={move} onPointerLeave={() => setAt(null)}>
      {panels.map((p, i) => (
        <figure key={p.title}>
          <figcaption>
            <span>
              {p.title}
              <span class="unit">{p.unit && ', ' + p.unit}</span>
            </span>
            <span class="legend">
              {p.lines.map((l) => (
                <span key={l.name} class={'key ' + l.look}>
                  <svg viewBox="0 0 18 6" aria-hidden="true">
                    <path d="M0 3h18" />
                  </svg>
                  {l.name && <span class="muted">{l.name}</span>}
                  <span class="value">{l.say(l.values[index])}</span>
                </span>
              ))}
            </span>
          </figcaption>
          {width > 0 && <Plot {...{ p, t, x, width, switches, at, last: i === panels.length - 1 }} />}
        </figure>
      ))}
      <p class="when muted">{at == null ? `${duration(to - from)} until now` : `at ${clock(t[index])}`}</p>
    </div>
  )
}

interface PlotProps {
  p: Panel
  t: number[]
  x: (t: number) => number
  width: number
  switches: Switch[]
  at: number | null
  last: boolean
}

function Plot({ p, t, x, width, switches, at, last }: PlotProps) {
  const height = p.steps ? Math.max(40, Math.min(110, p.steps.length * 18)) : 84
  const y = axis(p, height)
  const end = height + (last ? foot : 4)
  const within = switches.filter((s) => s.t >= t[0]! && s.t <= t[t.length - 1]!)
  const visible = within.length * 16 < width ? within : [] // more would only be a grid
  return (
    <svg width={width} height={end} role="img" aria-label={summary(p)}>
      {y.ticks.map((v) => (
        <g key={v}>
          <path class="grid" d={`M${left} ${y.at(v)}H${width - right}`} />
          <text x={left - 6} y={y.at(v) + 4} text-anchor="end">
            {p.steps ? clipped(p.steps[v] ?? '') : v.toFixed(y.digits)}
          </text>
        </g>
      ))}
      {visible.map((s) => (
        <path key={s.t + s.text} class="switch" d={`M${x(s.t)} 0V${height}`}>
          <title>{s.text}</title>
        </path>
      ))}
      {limit(p, y, width)}
      {p.lines.map((l) => (
        <path key={l.name} class={'line ' + l.look} d={path(l.values, t, x, y.at, p.steps !== undefined)} />
      ))}
      {at != null && t[at] != null && (
        <g class="cross">
          <path d={`M${x(t[at]!)} 0V${height}`} />
          {p.lines.map(
            (l) =>
              l.values[at] != null && (
                <circle key={l.name} class={l.look} cx={x(t[at]!)} cy={y.at(l.values[at]!)} r="3" />
              ),
          )}
        </g>
      )}
      {last &&
        times(t, width).map((v, i, all) => (
          <text key={v} x={x(v)} y={end - 3} text-anchor={i === 0 ? 'start' : i === all.length - 1 ? 'end' : 'middle'}>
            {clock(v)}
          </text>
        ))}
    </svg>
  )
}

// axis has all values, and the limit where it would not press the lines flat.
function axis(p: Panel, height: number): Scale {
  if (p.steps) {
    const last = Math.max(1, p.steps.length - 1)
    return {
      at: (v) => height - 8 - (v / last) * (height - 16),
      ticks: p.steps.map((_, i) => i),
      digits: 0,
    }
  }
  const all = p.lines.flatMap((l) => l.values).filter((v): v is number => v != null)
  let most = Math.max(p.most ?? -Infinity, ...all)
  if (p.limit && p.limit.value < 2 * most) most = Math.max(most, p.limit.value)
  const least = Math.min(p.least ?? Infinity, ...all)
  return Number.isFinite(least) && Number.isFinite(most)
    ? linear(least, most, height - 4, 8, 3)
    : linear(0, 1, height - 4, 8, 1)
}

function limit(p: Panel, y: Scale, width: number) {
  const top = y.ticks[y.ticks.length - 1] ?? 0
  if (!p.limit || p.limit.value > top) return null
  const at = y.at(p.limit.value)
  return (
    <g class="limit">
      <path d={`M${left} ${at}H${width - right}`} />
      <text x={width - right} y={at - 3} text-anchor="end">
        {p.limit.name}
      </text>
    </g>
  )
}

// path breaks where nothing is known, and where nothing was heard for long.
function path(
  values: (number | null)[],
  t: number[],
  x: (t: number) => number,
  y: (v: number) => number,
  steps: boolean,
) {
  const gap = 4 * median(t)
  let d = ''
  let before: number | null = null
  values.forEach((v, i) => {
    if (v == null) {
      before = null
      return
    }
    const px = x(t[i]!).toFixed(1)
    const py = y(v).toFixed(1)
    if (before == null || t[i]! - t[i - 1]! > gap) d += `M${px} ${py}`
    else d += steps ? `H${px}V${py}` : `L${px} ${py}`
    before = v
  })
  return d
}

function median(t: number[]): number {
  const steps = t
    .slice(1)
    .map((v, i) => v - t[i]!)
    .sort((a, b) => a - b)
  return steps[steps.length >> 1] ?? 0
}

function nearest(t: number[], wanted: number): number {
  let low = 0
  let high = t.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (t[middle]! < wanted) low = middle + 1
    else high = middle
  }
  return low > 0 && wanted - t[low - 1]! < t[low]! - wanted ? low - 1 : low
}

function times(t: number[], width: number): number[] {
  const from = t[0]!
  const to = t[t.length - 1]!
  const n = Math.max(1, Math.min(6, Math.floor((width - left) / 110)))
  return Array.from({ length: n + 1 }, (_, i) => from + ((to - from) * i) / n)
}

const clipped = (s: string) => (s.length > 9 ? s.slice(0, 8) + '…' : s)

function summary(p: Panel): string {
  const parts = p.lines.map((l) => {
    const known = l.values.filter((v): v is number => v != null)
    const name = [p.title, l.name].filter(Boolean).join(' ')
    if (known.length === 0) return `${name}: not known`
    const now = `${name}: ${l.say(l.values[l.values.length - 1])} now`
    return p.steps ? now : `${now}, from ${l.say(Math.min(...known))} to ${l.say(Math.max(...known))}`
  })
  return parts.join('; ')
}
