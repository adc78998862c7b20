import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Command } from './command'
import { move, place, rows, type Box, type Section } from './grid'
import { Mark } from './mark'
import { go } from './route'
import { own, type Picture } from './stream'
import { Blank, TileView } from './tile'
import type { Counts, Look } from './wire'
import { useWidth } from './width'
import { age, count, plural } from './words'

export interface Window {
  from: number
  to: number
}

// What of the fleet is kept while a device is looked at, to come back to the same place.
export interface Place {
  where: string
  active: number
  scroll: number
}

interface Props {
  picture: Picture
  where: string
  only: Look | ''
  setOnly: (only: Look | '') => void
  window: Window
  setWindow: (w: Window) => void
  place: { current: Place }
}

export function Fleet(props: Props) {
  const { picture, where } = props
  const counts = picture.counts
  return (
    <>
      <h1 class="unseen" tabIndex={-1}>
        Fleet {picture.fleet}
      </h1>
      <Filter key={where} where={where} error={picture.where_error?.text} />
      {counts && counts.devices > 0 && <Chips counts={counts} only={props.only} setOnly={props.setOnly} />}
      {counts && counts.fit > 0 && <Tiles key={where} {...props} counts={counts} />}
      {counts && <Nobody {...props} counts={counts} />}
      {!counts && <p class="muted wait">{picture.deaf || picture.where_error?.text ? '' : 'Reading the fleet …'}</p>}
    </>
  )
}

function Filter({ where, error }: { where: string; error: string | undefined }) {
  const [text, setText] = useState(where)
  const input = useRef<HTMLInputElement>(null)
  const submit = (e?: Event) => {
    e?.preventDefault()
    const typed = input.current?.value ?? text // what was typed just now may not be in the state yet
    if (typed !== where) go({ screen: 'fleet', where: typed.trim() })
  }
  const key = (e: KeyboardEvent) => {
    if (e.key !== 'Escape') return
    e.stopPropagation()
    if (text === '') input.current?.blur()
    setText('')
    if (where) go({ screen: 'fleet', where: '' })
  }
  return (
    <form class="filter" role="search" onSubmit={submit}>
      <div class="field">
        <label for="where" class="unseen">
          Show the devices for which this holds
        </label>
        <input
          id="where"
          ref={input}
          type="text"
          value={text}
          placeholder="label.site=berlin, mode!=balanced"
          spellcheck={false}
          autocomplete="off"
          autocapitalize="off"
          enterkeyhint="search"
          aria-invalid={error !== undefined}
          aria-describedby="where-error"
          onInput={(e) => setText(e.currentTarget.value)}
          onKeyDown={key}
        />
        <kbd aria-hidden="true">/</kbd>
        <p id="where-error" class={error ? 'wrong' : ''} role="alert">
          {error}
        </p>
      </div>
      <button type="submit">Filter</button>
    </form>
  )
}

const looks: { look: Look; word: string }[] = [
  { look: 'lost', word: 'lost' },
  { look: 'fault', word: 'with a fault' },
  { look: 'updating', word: 'updating' },
  { look: 'offline', word: 'offline' },
  { look: 'online', word: 'running' },
]

function Chips({ counts, only, setOnly }: { counts: Counts; only: Look | ''; setOnly: (l: Look | '') => void }) {
  return (
    <>
      <div class="chips" role="group" aria-label="Devices by state">
        <p class="total">
          <b>{plural(counts.fit, 'device')}</b>
          {counts.fit !== counts.devices && <span class="muted"> of {count(counts.devices)}</span>}
          {counts.more && <span class="wrong"> and more, for which there is no room here</span>}
        </p>
        {looks
          .filter(({ look }) => counts[look] > 0 || only === look)
          .map(({ look, word }) => (
            <button
              key={look}
              type="button"
              class="chip"
              aria-pressed={only === look}
              onClick={() => setOnly(only === look ? '' : look)}
            >
              <Mark of={look} />
              <b>{count(counts[look])}</b> {word}
            </button>
          ))}
      </div>
      <div class="share" aria-hidden="true">
        {looks
          .filter(({ look }) => counts[look] > 0)
          .map(({ look }) => (
            <span key={look} class={look} style={{ flexGrow: counts[look] }} />
          ))}
      </div>
    </>
  )
}

// sections are the groups of the list, in its order.
function sections(c: Counts, only: Look | ''): Section[] {
  const n = (look: Look) => (only === '' || only === look ? c[look] : 0)
  return [
    { title: 'Needs a look', size: n('lost') + n('fault'), tall: true },
    { title: 'Updating', size: n('updating'), tall: true },
    { title: 'Offline', size: n('offline'), tall: false },
    { title: 'Running', size: n('online'), tall: false },
  ].filter((s) => s.size > 0)
}

function Tiles({ picture, where, only, counts, window, setWindow, place: kept }: Props & { counts: Counts }) {
  const { ref, width } = useWidth<HTMLDivElement>()
  const [active, setActive] = useState(kept.current.where === where ? kept.current.active : 0)
  const focusing = useRef(false)
  const grid = place(sections(counts, only), width)
  const total = grid.total
  useWindow(ref, grid, setWindow)
  useLayoutEffect(() => {
    if (width > 0 && kept.current.where === where) scrollTo(0, kept.current.scroll)
  }, [width > 0])
  // keep is called at once, as what has the focus may be opened before this is drawn anew.
  const keep = (i: number) => {
    kept.current = { where, active: i, scroll: scrollY }
    setActive(i)
  }
  useEffect(() => {
    if (kept.current.where !== where) kept.current = { where, active: 0, scroll: scrollY }
    const scrolled = () => (kept.current.scroll = scrollY)
    addEventListener('scroll', scrolled, { passive: true })
    return () => removeEventListener('scroll', scrolled)
  }, [])
  useLayoutEffect(() => {
    if (!focusing.current) return
    const link = ref.current?.querySelector<HTMLElement>(`[data-at="${active}"]`)
    if (link) {
      link.focus({ preventScroll: true })
      focusing.current = false
    }
  })
  const key = (e: KeyboardEvent) => {
    const to = move(grid, active, e.key)
    if (to === null || e.altKey || e.ctrlKey || e.metaKey) return
    e.preventDefault()
    focusing.current = true
    keep(to)
    reveal(ref.current!, grid.box(to))
  }
  const from = shownFrom(picture)
  const names = picture.order ?? []
  const at = Math.min(active, Math.max(0, total - 1))
  return (
    <div ref={ref} class="tiles" style={{ height: grid.height + 'px' }} onKeyDown={key}>
      {width > 0 &&
        grid.parts.map((part) => (
          <section key={part.title} aria-label={`${part.title}, ${plural(part.size, 'device')}`}>
            <h2 style={{ top: part.top + 'px' }}>
              {part.title} <span class="muted">{count(part.size)}</span>
            </h2>
            <ul>
              {within(window, part.first, part.size).map((i) => {
                const name = names[i - from]
                const tile = name === undefined ? undefined : own(picture.tiles, name)
                const box = grid.box(i)
                if (name === undefined || !tile) return <Blank key={'blank' + i} box={box} />
                return (
                  <TileView
                    key={name}
                    {...{ name, tile, box, where, at: i, of: total }}
                    since={tile.look === 'offline' ? age(tile.since) : ''}
                    tall={part.tall}
                    stop={i === at || (at < window.from && i === window.from)}
                    onFocus={() => keep(i)}
                  />
                )
              })}
            </ul>
          </section>
        ))}
    </div>
  )
}

// shownFrom is where the window of the picture began, which may be an older one.
const shownFrom = (p: Picture) => Number(new URLSearchParams(p.query).get('from') ?? 0)

function within(w: Window, first: number, size: number): number[] {
  const from = Math.max(w.from, first)
  const to = Math.min(w.to, first + size)
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i)
}

// useWindow tells which tiles are on the screen, and a screen around them, in steps, so that
// not every scroll is another stream.
function useWindow(ref: { current: HTMLDivElement | null }, grid: ReturnType<typeof place>, set: (w: Window) => void) {
  useEffect(() => {
    let timer = 0
    const look = () => {
      if (!ref.current) return
      const top = -ref.current.getBoundingClientRect().top
      set(rows(grid, top - innerHeight / 2, top + 1.5 * innerHeight))
    }
    const scrolled = () => {
      clearTimeout(timer)
      timer = setTimeout(look, 60)
    }
    look()
    addEventListener('scroll', scrolled, { passive: true })
    addEventListener('resize', scrolled)
    return () => {
      clearTimeout(timer)
      removeEventListener('scroll', scrolled)
      removeEventListener('resize', scrolled)
    }
  }, [grid.height, grid.columns, grid.total])
}

function reveal(list: HTMLElement, box: Box) {
  const bar = 64
  const y = list.getBoundingClientRect().top + box.top
  if (y < bar) scrollBy(0, y - bar)
  else if (y + box.height > innerHeight - 16) scrollBy(0, y + box.height - innerHeight + 16)
}

function Nobody({ picture, where, only, setOnly, counts }: Props & { counts: Counts }) {
  if (counts.devices === 0) {
    if (!picture.link?.ok) return <NoBroker picture={picture} />
    return picture.link.settled ? (
      <EmptyFleet picture={picture} />
    ) : (
      <p class="muted wait">Reading what the broker retains …</p>
    )
  }
  if (counts.fit === 0 && !picture.where_error?.text) {
    return (
      <div class="nobody">
        <p>
          No device fits <code>{where}</code>.
        </p>
        <button type="button" onClick={() => go({ screen: 'fleet', where: '' })}>
          Show all {plural(counts.devices, 'device')}
        </button>
      </div>
    )
  }
  if (only && counts[only] === 0) {
    return (
      <div class="nobody">
        <p>There is no such device any more.</p>
        <button type="button" onClick={() => setOnly('')}>
          Show {plural(counts.fit, 'device')}
        </button>
      </div>
    )
  }
  return null
}

// NoBroker is what to do where the banner says that there is none.
function NoBroker({ picture }: { picture: Picture }) {
  return (
    <div class="nobody">
      <h2>Devices appear here once there is a connection</h2>
      <p>A broker for a desk, on this machine:</p>
      <Command text="limber broker" />
      <p>
        This page, of another broker than <code>{picture.link?.broker}</code>:
      </p>
      <Command text="limber dash --broker mqtts://broker.example:8883 --ca-file ca.crt" />
    </div>
  )
}

function EmptyFleet({ picture }: { picture: Picture }) {
  const broker = picture.link?.broker ?? ''
  const flags = `--broker ${broker}` + (picture.fleet === 'demo' ? '' : ` --fleet ${picture.fleet}`)
  return (
    <div class="nobody">
      <h2>No device has told this broker of itself yet</h2>
      <p>
        This page listens at <code>{broker}</code> for the fleet <code>{picture.fleet}</code>. Devices appear here by
        themselves.
      </p>
      <p>This machine as a device:</p>
      <Command text={`limber agent ${flags} --device cam-1`} />
      <p>Fifty simulated ones:</p>
      <Command text={`limber sim -n 50 ${flags}`} />
      <p class="muted">
        A device that should be here and is not: does it have this broker and this fleet in its configuration, and may
        the user of this page read it?
      </p>
    </div>
  )
}
