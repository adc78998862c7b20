import { useState } from 'preact/hooks'
import { CountBar, State, countText, devices, what } from './rollouts'
import { address, go } from './route'
import { Said } from './said'
import { Outcomes, useRequest, type Steering } from './steer'
import type { Picture } from './stream'
import type {
  Agreement,
  Labelled,
  Rollout,
  RolloutDevice,
  RolloutGate,
  RolloutPhase,
  RolloutScreen,
  Shadow,
} from './wire'
import { clock, count, dash, duration, fixed, ms, percent, short } from './words'

interface Props {
  picture: Picture
  id: string
  steering: Steering
  shown: number // devices that are asked for
  more: () => void
}

export function RolloutView({ picture, id, steering, shown, more }: Props) {
  const r = picture.rollout?.id === id ? picture.rollout : undefined
  return (
    <>
      <p class="back">
        <a href={address({ screen: 'rollouts' })}>‹ Rollouts</a>
      </p>
      <h1 tabIndex={-1}>{id}</h1>
      {!r && <p class="muted wait">Reading the rollout …</p>}
      {r?.trouble && (
        <p class="trouble">
          <Said text={r.trouble} />
        </p>
      )}
      {r?.known === false && (
        <div class="nobody">
          <p>
            The controller retains no rollout <code>{id}</code>: it keeps those that live, and the newest.
          </p>
          <button type="button" onClick={() => go({ screen: 'rollouts' })}>
            Show the rollouts
          </button>
        </div>
      )}
      {r?.doc && r.known !== false && <Known r={r} doc={r.doc} steering={steering} shown={shown} more={more} />}
    </>
  )
}

function Known({
  r,
  doc,
  steering,
  shown,
  more,
}: {
  r: RolloutScreen
  doc: Rollout
  steering: Steering
  shown: number
  more: () => void
}) {
  const phases = doc.phases ?? []
  return (
    <>
      <div class={'presence ' + doc.state}>
        <p>
          <State state={doc.state} />{' '}
          <span class="muted">
            {what(doc)}
            {doc.ts && `, started ${clock(doc.ts)}`}
          </span>
        </p>
        {doc.why && (
          <p class="why-line">
            <Said text={doc.why} />
          </p>
        )}
      </div>
      {steering.allowed && !final(doc.state) && <Actions doc={doc} steering={steering} />}
      <div class="cards">
        <ol class="phases">
          {phases.map((p, i) => (
            <Phase key={i} p={p} at={i + 1} now={doc.phase === i + 1 && !final(doc.state)} of={phases.length} />
          ))}
        </ol>
        {r.by_label && r.by_label.length > 0 && <ByLabel list={r.by_label} />}
        <Devices r={r} shown={shown} more={more} />
        <Spec doc={doc} />
      </div>
    </>
  )
}

const final = (state: string | undefined) => state === 'done' || state === 'failed' || state === 'aborted'

function Actions({ doc, steering }: { doc: Rollout; steering: Steering }) {
  const request = useRequest(steering)
  const [asked, setAsked] = useState(false)
  const [rollback, setRollback] = useState(false)
  const send = (action: string, body = {}) => request.send(`rollouts/${encodeURIComponent(doc.id)}/${action}`, body)
  const abort = async () => {
    setAsked(false)
    await send('abort', { rollback })
  }
  return (
    <div class="actions">
      <div class="row">
        {doc.state === 'approval' && (
          <button type="button" class="first" disabled={request.busy} onClick={() => send('approve')}>
            Approve the next phase
          </button>
        )}
        {doc.state === 'paused' ? (
          <button type="button" class="first" disabled={request.busy} onClick={() => send('resume')}>
            Resume
          </button>
        ) : (
          <button type="button" disabled={request.busy} onClick={() => send('pause')}>
            Pause
          </button>
        )}
        {!asked && (
          <button type="button" class="danger" disabled={request.busy} onClick={() => setAsked(true)}>
            Abort …
          </button>
        )}
      </div>
      {asked && (
        <div class="row sure" role="group" aria-label="Abort the rollout">
          <label class="check">
            <input type="checkbox" checked={rollback} onChange={(e) => setRollback(e.currentTarget.checked)} /> devices
            on which it succeeded go back
          </label>
          <button type="button" class="danger" onClick={abort}>
            Abort the rollout
          </button>
          <button type="button" onClick={() => setAsked(false)}>
            Keep it
          </button>
        </div>
      )}
      <Outcomes request={request} />
    </div>
  )
}

function Phase({ p, at, now, of }: { p: RolloutPhase; at: number; now: boolean; of: number }) {
  return (
    <li class={'card phase ' + p.state + (now ? ' now' : '')} aria-current={now ? 'step' : undefined}>
      <div class="card-head">
        <h2>
          Phase {at} of {of}
        </h2>
        <span class={'phase-state ' + p.state}>{p.state}</span>
      </div>
      <CountBar counts={p.counts} size={p.size} />
      <p class="muted">
        {devices(p.size)}
        {countText(p.counts) && ': ' + countText(p.counts)}
      </p>
      {p.gates && p.gates.length > 0 && (
        <table class="table gates">
          <thead>
            <tr>
              <th>Gate</th>
              <th class="num">Is</th>
              <th class="num">Limit</th>
              <th class="num">Frames</th>
              <th class="num">Verdict</th>
            </tr>
          </thead>
          <tbody>
            {p.gates.map((g) => (
              <Gate key={g.name} g={g} />
            ))}
          </tbody>
        </table>
      )}
    </li>
  )
}

const verdicts: Record<string, string> = { pass: 'passes', fail: 'fails', wait: 'waits' }

function Gate({ g }: { g: RolloutGate }) {
  const least = g.name === 'success' || g.name === 'agreement'
  const sign = least ? '≥ ' : '≤ '
  const limit = g.limit ? sign + gateFigure(g.name, g.limit) : g.limit_by ? sign + g.limit_by : dash
  return (
    <tr>
      <td>{g.name}</td>
      <td class="num">{gateFigure(g.name, g.value)}</td>
      <td class="num">{limit}</td>
      <td class="num">{g.name === 'success' ? dash : count(g.frames)}</td>
      <td class={'num verdict ' + g.verdict}>{verdicts[g.verdict] ?? g.verdict}</td>
    </tr>
  )
}

// gateFigure has the unit of a gate: a share of devices or frames, or milliseconds.
function gateFigure(name: string, v: number | undefined): string {
  if (v === undefined) return dash
  return name === 'p95' ? `${ms(v)} ms` : `${percent(v)} %`
}

function Spec({ doc }: { doc: Rollout }) {
  const s = doc.spec
  if (!s) return null
  const rows: [string, string][] = [
    ['where', s.where || 'all devices'],
    ['family', s.family ? `${s.family.name}, ${short(s.family.digest)}` : ''],
    ['release', s.release ? `${s.release.version} for ${s.release.manifests.map((m) => m.arch).join(', ')}` : ''],
    ['phases', s.phases?.join(', ') ?? ''],
    ['canary', s.canary?.join(', ') ?? ''],
    ['shadow', s.shadow ? shadowText(s.shadow) : ''],
    ['gates', s.gates?.map((g) => `${g.name} ${g.limit}`).join(', ') ?? ''],
    [
      'observed',
      [s.observe ? `${count(s.observe)} frames` : '', s.soak_ms != null ? `at least ${duration(s.soak_ms)}` : '']
        .filter(Boolean)
        .join(', '),
    ],
    ['each device', s.for_ms != null ? `within ${duration(s.for_ms)}` : ''],
    ['unavailable', s.max_unavailable ? `at most ${s.max_unavailable.n} of one ${s.max_unavailable.label}` : ''],
    [
      'also',
      [
        s.approve && 'each phase waits for approval',
        s.follow && 'devices that come later are taken in',
        s.rollback && 'devices go back where a gate fails',
      ]
        .filter(Boolean)
        .join('; '),
    ],
  ]
  return (
    <section class="card facts" aria-labelledby="spec">
      <h2 id="spec">What was asked for</h2>
      <dl>
        {rows
          .filter(([, v]) => v)
          .map(([k, v]) => (
            <div key={k}>
              <dt>{k}</dt>
              <dd>{v}</dd>
            </div>
          ))}
      </dl>
    </section>
  )
}

function shadowText(s: Shadow): string {
  const parts = [`${s.percent ?? 10} % of the frames at most`, `${count(s.frames ?? 200)} frames`]
  if (s.only) parts.push('judged only, and not taken into use')
  return parts.join(', ')
}

// Compared is what a family found of a family that it was compared with, in four cells.
function Compared({ a }: { a: Agreement | Labelled | undefined }) {
  return (
    <>
      <td class="num">{percent(a?.agreement)}</td>
      <td class="num more-room">{a ? count(a.frames) : dash}</td>
      <td class="num more-room">{ms(a?.p95_ms)}</td>
      <td class="num">{a ? count(a.missed) : dash}</td>
    </>
  )
}

const comparedHead = (
  <>
    <th class="num">Same class, %</th>
    <th class="num more-room">Frames</th>
    <th class="num more-room">p95, ms</th>
    <th class="num">Would miss</th>
  </>
)

function ByLabel({ list }: { list: Labelled[] }) {
  return (
    <section class="card" aria-labelledby="by-label">
      <h2 id="by-label">Agreement with the family in use, by label</h2>
      <table class="table">
        <thead>
          <tr>
            <th>Label</th>
            <th class="num">Devices</th>
            {comparedHead}
          </tr>
        </thead>
        <tbody>
          {list.map((l) => (
            <tr key={l.label + '=' + l.value}>
              <td>
                {l.label}={l.value}
              </td>
              <td class="num">{count(l.devices)}</td>
              <Compared a={l} />
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

function Devices({ r, shown, more }: { r: RolloutScreen; shown: number; more: () => void }) {
  const list = (r.order ?? []).map((name) => r.devices?.[name]).filter((d) => d !== undefined)
  const total = r.total ?? list.length
  const compared = list.some((d) => d.shadow)
  return (
    <section class="card" aria-labelledby="devices">
      <div class="card-head">
        <h2 id="devices">Devices</h2>
        <span class="muted">
          {total > list.length
            ? `${count(list.length)} of ${count(total)}, those to be looked at first`
            : devices(total)}
        </span>
      </div>
      <div class="wide">
        <table class="table devices">
          <thead>
            <tr>
              <th>Device</th>
              <th>State</th>
              {compared && comparedHead}
              <th class="num more-room">Attempt</th>
              <th class="num more-room">Since</th>
            </tr>
          </thead>
          <tbody>
            {list.map((d) => (
              <DeviceRow key={d.device} d={d} compared={compared} />
            ))}
          </tbody>
        </table>
      </div>
      {total > shown && (
        <p class="more">
          <button type="button" onClick={more}>
            Show more
          </button>
        </p>
      )}
    </section>
  )
}

function DeviceRow({ d, compared }: { d: RolloutDevice; compared: boolean }) {
  const bad = d.state === 'failed' || d.state === 'timed_out' || d.state === 'rolled_back'
  return (
    <tr>
      <td>
        <a href={address({ screen: 'device', device: d.device, where: '' })}>{d.device}</a>
      </td>
      <td>
        <span class={bad ? 'wrong' : ''}>{d.state.replace('_', ' ')}</span>{' '}
        <span class="muted">{[d.reason, d.detail].filter(Boolean).join(': ')}</span>
      </td>
      {compared && <Compared a={d.shadow} />}
      <td class="num more-room">{fixed(d.attempt)}</td>
      <td class="num more-room">{clock(d.ts)}</td>
    </tr>
  )
}
