// Figures as people read them. What is not known is a dash, never a zero.
export const dash = '–'

export function fixed(v: number | null | undefined, digits = 0): string {
  return v == null || !Number.isFinite(v) ? dash : v.toFixed(digits)
}

// ms has three digits that count, as a latency of 0.4 ms and one of 400 ms both matter.
export function ms(v: number | null | undefined): string {
  if (v == null || !Number.isFinite(v)) return dash
  return v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)
}

export function percent(share: number | null | undefined, digits = 1): string {
  return share == null ? dash : fixed(share * 100, digits)
}

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

export const count = (n: number) => grouped.format(n)

export const plural = (n: number, what: string) => `${count(n)} ${what}${n === 1 ? '' : 's'}`

const clockTime = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const dayTime = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
})

// clock is a time of day here; of another day it comes with the date.
export function clock(ts: string | number | null | undefined, now = Date.now()): string {
  if (ts == null) return dash
  const at = new Date(ts)
  if (Number.isNaN(at.getTime())) return dash
  return (Math.abs(now - at.getTime()) < 20 * 3600e3 ? clockTime : dayTime).format(at)
}

// age is a duration in its greatest unit, as `fleet ls` has it.
export function age(since: string | null | undefined, now = Date.now()): string {
  if (!since) return dash
  const s = Math.max(0, Math.floor((now - Date.parse(since)) / 1000))
  if (s >= 2 * 86400) return `${Math.floor(s / 86400)} d`
  if (s >= 2 * 3600) return `${Math.floor(s / 3600)} h`
  if (s >= 120) return `${Math.floor(s / 60)} min`
  return `${s} s`
}

export function duration(millis: number): string {
  if (millis >= 2 * 3600e3) return `${Math.round(millis / 3600e3)} h`
  if (millis >= 120e3) return `${Math.round(millis / 60e3)} min`
  return `${Math.round(millis / 1000)} s`
}

export const labelList = (labels: Record<string, string> | undefined) =>
  Object.entries(labels ?? {})
    .map(([k, v]) => `${k}=${v}`)
    .sort()
    .join(', ')

// short is a digest as people compare it.
export const short = (digest: string) => digest.replace(/^sha256:/, '').slice(0, 12)
