import { linear } from './scale'
import { useWidth } from './width'
import { ms, percent } from './words'

// The Pareto front of a device: what accuracy costs there in time. A filled dot is what a
// member takes alone, with a tail to its p95; a ring is what it is expected to take now.

export interface Point {
  member: string
  top1: number // in [0, 1]
  p50_ms?: number | null
  p95_ms?: number | null
  now_ms?: number | null
  operating?: boolean
}

const height = 268
const left = 44
const right = 16
const top = 26
const foot = 40

export function Front({ points, deadline, least }: { points: Point[]; deadline?: number; least?: number }) {
  const { ref, width } = useWidth<HTMLDivElement>()
  const known = points.filter((p) => p.p50_ms != null || p.now_ms != null)
  return (
    <div ref={ref} class="front">
      {known.length === 0 && <p class="muted">No member has been measured on this device yet.</p>}
      {known.length > 0 && width > 0 && <Drawing {...{ points: known, deadline, least, width }} />}
    </div>
  )
}

function Drawing({
  points,
  deadline,
  least,
  width,
}: {
  points: Point[]
  deadline: number | undefined
  least: number | undefined
  width: number
}) {
  const slowest = Math.max(...points.flatMap((p) => [p.p50_ms ?? 0, p.now_ms ?? 0]))
  const tails = Math.max(...points.map((p) => p.p95_ms ?? 0)) // which may be far longer, and are cut
  const latest = Math.max(slowest, Math.min(2 * slowest, tails))
  const near = deadline != null && deadline <= 2.5 * latest
  const x = linear(0, near ? Math.max(latest, deadline) : latest, left, width - right, width < 420 ? 4 : 6)
  const all = points.map((p) => 100 * p.top1)
  if (least != null) all.push(100 * least)
  const span = Math.max(1, Math.max(...all) - Math.min(...all))
  const y = linear(Math.min(...all) - span / 8, Math.min(100, Math.max(...all) + span / 8), height - foot, top, 5)
  const through = (of: (p: Point) => number | null | undefined) =>
    points.filter((p) => of(p) != null).map((p) => `${x.at(of(p)!).toFixed(1)} ${y.at(100 * p.top1).toFixed(1)}`)
  const alone = through((p) => p.p50_ms)
  const now = through((p) => p.now_ms)
  const bottom = height - foot
  return (
    <svg width={width} height={height} role="img" aria-label={summary(points, deadline, least)}>
      {y.ticks.map((v) => (
        <g key={v}>
          <path class="grid" d={`M${left} ${y.at(v)}H${width - right}`} />
          <text x={left - 6} y={y.at(v) + 4} text-anchor="end">
            {v.toFixed(y.digits)}
          </text>
        </g>
      ))}
      {x.ticks.map((v) => (
        <text key={v} x={x.at(v)} y={bottom + 16} text-anchor="middle">
          {v.toFixed(x.digits)}
        </text>
      ))}
      <text class="axis" x={width - right} y={height - 4} text-anchor="end">
        inference, ms
      </text>
      <text class="axis" x={0} y={12}>
        top-1, %
      </text>
      {near && (
        <g class="limit">
          <path d={`M${x.at(deadline)} ${top}V${bottom}`} />
          <text x={x.at(deadline) - 5} y={bottom - 6} text-anchor="end">
            deadline {ms(deadline)} ms
          </text>
        </g>
      )}
      {least != null && (
        <g class="limit">
          <path d={`M${left} ${y.at(100 * least)}H${width - right}`} />
          <text x={width - right} y={y.at(100 * least) + 14} text-anchor="end">
            goal, at least {percent(least)} %
          </text>
        </g>
      )}
      {now.length > 1 && <path class="front-now" d={'M' + now.join('L')} />}
      {alone.length > 1 && <path class="front-line" d={'M' + alone.join('L')} />}
      {points.map((p) => (
        <Dot key={p.member} p={p} x={x.at} y={y.at(100 * p.top1)} end={width - right} />
      ))}
      {labels(points, x.at, y.at, width).map((l) => (
        <text key={l.text} class={l.operating ? 'label operating' : 'label'} x={l.x} y={l.y} text-anchor={l.anchor}>
          {l.text}
        </text>
      ))}
    </svg>
  )
}

function Dot({ p, x, y, end }: { p: Point; x: (v: number) => number; y: number; end: number }) {
  const tail = p.p50_ms != null && p.p95_ms != null && (x(p.p95_ms) <= end ? `H${x(p.p95_ms)}m0 -3v6` : `H${end}`)
  return (
    <g class={p.operating ? 'dot operating' : 'dot'}>
      <title>{sentence(p)}</title>
      {p.now_ms != null && p.p50_ms != null && <path class="shift" d={`M${x(p.p50_ms)} ${y}H${x(p.now_ms)}`} />}
      {tail && <path class="tail" d={`M${x(p.p50_ms!)} ${y}${tail}`} />}
      {p.p50_ms != null && <circle cx={x(p.p50_ms)} cy={y} r={p.operating ? 5 : 3.5} />}
      {p.now_ms != null && <circle class="ring" cx={x(p.now_ms)} cy={y} r={p.operating ? 7 : 5} />}
    </g>
  )
}

interface Label {
  text: string
  x: number
  y: number
  anchor: 'start' | 'end'
  operating: boolean
}

// labels leaves out the name of a member for which there is no room; the operating one comes first.
function labels(points: Point[], x: (v: number) => number, y: (v: number) => number, width: number): Label[] {
  const placed: (Label & { from: number; to: number })[] = []
  const order = [...points].sort((a, b) => Number(b.operating ?? false) - Number(a.operating ?? false))
  for (const p of order) {
    const text = p.member.length > 24 ? p.member.slice(0, 23) + '…' : p.member
    const size = text.length * 7 + 4
    const at = Math.max(x(p.p50_ms ?? 0), x(p.now_ms ?? 0))
    const start = at + 12 + size < width - right
    const from = start ? at + 12 : Math.min(x(p.p50_ms ?? p.now_ms!), x(p.now_ms ?? p.p50_ms!)) - 12 - size
    for (const dy of start ? [14, -8, 4] : [-8, 14, 4]) {
      const to = {
        text,
        x: start ? from : from + size,
        y: y(100 * p.top1) + dy,
        anchor: start ? ('start' as const) : ('end' as const),
        operating: p.operating ?? false,
        from,
        to: from + size,
      }
      const free = from >= left && placed.every((l) => l.to < to.from || l.from > to.to || Math.abs(l.y - to.y) > 13)
      if (free) {
        placed.push(to)
        break
      }
    }
  }
  return placed
}

function sentence(p: Point): string {
  const parts = [`${p.member}: top-1 ${percent(p.top1)} %`]
  if (p.p50_ms != null) parts.push(`alone ${ms(p.p50_ms)} ms, p95 ${ms(p.p95_ms)} ms`)
  if (p.now_ms != null) parts.push(`expected now ${ms(p.now_ms)} ms`)
  if (p.operating) parts.push('operating')
  return parts.join(', ')
}

function summary(points: Point[], deadline?: number, least?: number): string {
  const parts = ['Pareto front', ...points.map(sentence)]
  if (deadline != null) parts.push(`deadline ${ms(deadline)} ms`)
  if (least != null) parts.push(`goal: top-1 at least ${percent(least)} %`)
  return parts.join('. ')
}
