// The list of tiles as a grid with a heading before each section, of which only what is on
// the screen is drawn. Indices are those of the whole list.

export interface Section {
  title: string
  size: number
  tall: boolean // its tiles have a line for what the device says
}

interface Part extends Section {
  first: number
  top: number
  tile: number
}

export interface Box {
  left: number
  top: number
  width: number
  height: number
}

export interface Grid {
  parts: Part[]
  columns: number
  total: number
  height: number
  box(i: number): Box
}

const least = 240 // width of a tile
const tall = 96 // height of one
const low = 76
const gap = 8
const head = 32

export function place(sections: Section[], width: number): Grid {
  const columns = Math.max(1, Math.floor((width + gap) / (least + gap)))
  const wide = (width - gap * (columns - 1)) / columns
  const parts: Part[] = []
  let first = 0
  let top = 0
  for (const s of sections) {
    const tile = s.tall ? tall : low
    parts.push({ ...s, first, top, tile })
    first += s.size
    top += head + Math.ceil(s.size / columns) * (tile + gap) + gap
  }
  const partOf = (i: number) => parts.findLast((p) => p.first <= i) ?? parts[0]!
  return {
    parts,
    columns,
    total: first,
    height: top,
    box: (i) => {
      const p = partOf(i)
      const n = i - p.first
      return {
        left: (n % columns) * (wide + gap),
        top: p.top + head + Math.floor(n / columns) * (p.tile + gap),
        width: wide,
        height: p.tile,
      }
    },
  }
}

// rows are the tiles between two heights, in steps of some rows.
export function rows(g: Grid, from: number, to: number): { from: number; to: number } {
  const step = 8 * (low + gap)
  const above = Math.floor(Math.max(0, from) / step) * step
  const below = Math.ceil(Math.max(to, 0) / step) * step
  let first = g.total
  let last = 0
  for (const p of g.parts) {
    const lines = Math.ceil(p.size / g.columns)
    const line = (y: number) => (y - p.top - head) / (p.tile + gap)
    const a = Math.min(lines, Math.max(0, Math.floor(line(above))))
    const b = Math.min(lines, Math.max(0, Math.ceil(line(below))))
    if (a >= b) continue
    first = Math.min(first, p.first + a * g.columns)
    last = Math.max(last, Math.min(p.first + p.size, p.first + b * g.columns))
  }
  return { from: Math.min(first, last), to: last }
}

// move is where a key leads, null for one that leads nowhere.
export function move(g: Grid, at: number, key: string): number | null {
  const clamp = (i: number) => Math.min(g.total - 1, Math.max(0, i))
  switch (key) {
    case 'ArrowLeft':
      return clamp(at - 1)
    case 'ArrowRight':
      return clamp(at + 1)
    case 'ArrowUp':
      return vertical(g, at, -1)
    case 'ArrowDown':
      return vertical(g, at, 1)
    case 'PageUp':
      return pages(g, at, -1)
    case 'PageDown':
      return pages(g, at, 1)
    case 'Home':
      return 0
    case 'End':
      return clamp(g.total - 1)
  }
  return null
}

// vertical stays in the column as far as the next row has it.
function vertical(g: Grid, at: number, by: 1 | -1): number {
  const box = g.box(at)
  const column = Math.round(box.left / (box.width + gap))
  const same = at + by * g.columns
  const part = g.parts.findLast((p) => p.first <= at)
  if (!part) return at
  if (same >= part.first && same < part.first + part.size) return same
  const lastRow = part.first + Math.floor((part.size - 1) / g.columns) * g.columns
  if (by > 0 && at < lastRow) return part.first + part.size - 1
  const other = g.parts[g.parts.indexOf(part) + by]
  if (!other) return at
  const row = by > 0 ? other.first : other.first + Math.floor((other.size - 1) / g.columns) * g.columns
  return Math.min(row + column, other.first + other.size - 1)
}

function pages(g: Grid, at: number, by: 1 | -1): number {
  for (let n = 0; n < 5; n++) at = vertical(g, at, by)
  return at
}
