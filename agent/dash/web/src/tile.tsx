import { memo } from './memo'
import { Mark } from './mark'
import type { Box } from './grid'
import { address } from './route'
import type { Tile } from './wire'
import { dash, fixed, labelList, ms, percent } from './words'

interface Props {
  name: string
  tile: Tile
  box: Box
  where: string
  at: number // in the list, from 0
  of: number
  since: string // how long it is so, in words; '' nobody asks
  tall: boolean // there is a line for what it says
  stop: boolean // the Tab key stops here
  onFocus: () => void
}

const words = { lost: 'lost', fault: 'fault', updating: 'updating', offline: 'offline', online: '' }

const manyWait = 20 // messages for the link: a few do at any moment

const style = (b: Box) => ({ left: b.left + 'px', top: b.top + 'px', width: b.width + 'px', height: b.height + 'px' })

// TileView is drawn anew only if something of it changed.
export const TileView = memo(function TileView({
  name,
  tile: t,
  box,
  where,
  at,
  of,
  since,
  tall,
  stop,
  onFocus,
}: Props) {
  const word = words[t.look]
  const note = t.note || (t.look === 'lost' ? 'its connection broke, nobody knows when' : labelList(t.labels))
  const held = t.outbox !== undefined && t.outbox >= manyWait
  return (
    <li class={'tile ' + t.look} style={style(box)} aria-setsize={of} aria-posinset={at + 1}>
      <div class="top">
        <Mark of={t.look} />
        <a
          class="clip"
          href={address({ screen: 'device', device: name, where })}
          tabIndex={stop ? 0 : -1}
          data-at={at}
          title={name}
          onFocus={onFocus}
        >
          {name}
        </a>
        {!word && !held && <span class="word labels clip">{labelList(t.labels)}</span>}
        {word && (
          <span class="word">
            {word}
            {since && ' ' + since}
          </span>
        )}
        {held && <span class="word bad">{t.outbox} in outbox</span>}
      </div>
      <div class="runs">
        <span class="mode clip">{t.mode ?? dash}</span>
        <span class="member clip">
          {t.member ?? dash}
          {t.members && t.member_at ? <Steps at={t.member_at} of={t.members} /> : ''}
        </span>
      </div>
      {t.jobs_s !== undefined || t.p95_ms !== undefined || t.temp_c !== undefined ? (
        <Figures of={t} />
      ) : (
        <div class="note clip">{[t.family, t.version].filter(Boolean).join(', ')}</div>
      )}
      {tall && (
        <div class="note clip" title={note}>
          {note}
        </div>
      )}
    </li>
  )
})

function Figures({ of: t }: { of: Tile }) {
  return (
    <div class="figures">
      <span>
        {fixed(t.jobs_s, 1)}
        <span class="unit">/s</span>
      </span>
      <span class={t.late !== undefined && t.late >= 0.05 ? 'bad' : ''}>
        {percent(t.late, t.late !== undefined && t.late >= 0.0995 ? 0 : 1)}
        <span class="unit"> % late</span>
      </span>
      <span>
        {ms(t.p95_ms)}
        <span class="unit"> ms</span>
      </span>
      <span>
        {fixed(t.temp_c)}
        <span class="unit"> °C</span>
      </span>
    </div>
  )
}

// Steps shows which of the members runs, the fastest being the lowest.
function Steps({ at, of }: { at: number; of: number }) {
  const n = Math.min(of, 8)
  const on = of <= 8 ? at : Math.max(1, Math.round((at / of) * n))
  return (
    <svg
      class="steps"
      viewBox={`0 0 ${n * 5} 12`}
      width={n * 5}
      height="12"
      role="img"
      aria-label={`member ${at} of ${of}`}
    >
      {Array.from({ length: n }, (_, i) => {
        const h = 3 + ((i + 1) / n) * 9
        return <rect key={i} x={i * 5} y={12 - h} width="3" height={h} class={i + 1 === on ? 'on' : ''} />
      })}
    </svg>
  )
}

export function Blank({ box }: { box: Box }) {
  return <li class="tile blank" style={style(box)} aria-hidden="true" />
}
