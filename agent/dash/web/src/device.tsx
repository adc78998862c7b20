import { Aims } from './aims'
import { Front, type Point } from './front'
import { Mark } from './mark'
import { go, address } from './route'
import { Series, type Panel, type Switch } from './series'
import type { Steering } from './steer'
import type { Picture } from './stream'
import type { Aim, Command, Decision, DeviceEvent, DeviceScreen, Tile } from './wire'
import { age, clock, dash, fixed, labelList, ms, percent } from './words'

export function Device({
  picture,
  name,
  where,
  steering,
}: {
  picture: Picture
  name: string
  where: string
  steering: Steering
}) {
  const d = picture.device?.name === name ? picture.device : undefined
  return (
    <>
      <p class="back">
        <a href={address({ screen: 'fleet', where })}>
          ‹ Fleet
          {where && (
            <>
              {' '}
              where <code>{where}</code>
            </>
          )}
        </a>
      </p>
      <h1 tabIndex={-1}>{name}</h1>
      {d?.known === false && <Unknown name={name} where={where} />}
      {!d && <p class="muted wait">Reading the device …</p>}
      {d && d.known !== false && <Known d={d} steering={steering} />}
    </>
  )
}

function Unknown({ name, where }: { name: string; where: string }) {
  return (
    <div class="nobody">
      <p>
        Nothing is known of a device <code>{name}</code> in this fleet. It was forgotten, or never connected to this
        broker.
      </p>
      <button type="button" onClick={() => go({ screen: 'fleet', where })}>
        Show the fleet
      </button>
    </div>
  )
}

function Known({ d, steering }: { d: DeviceScreen; steering: Steering }) {
  const switches = (d.events ?? []).filter((e) => e.kind === 'switch')
  return (
    <>
      {d.tile && <Presence tile={d.tile} />}
      <div class="cards device">
        <Why d={d} />
        <div class="cards side">
          <Aims d={d} steering={steering} />
          <Commands list={d.commands ?? []} />
        </div>
        <OverTime d={d} switches={switches} />
        <div class="cards side">
          <Switches list={switches} aim={d.aim} />
          <Events list={(d.events ?? []).filter((e) => e.kind !== 'switch')} />
        </div>
        <Facts d={d} />
      </div>
    </>
  )
}

const looks = {
  lost: 'Lost',
  fault: 'Online, with a fault',
  updating: 'Updating',
  offline: 'Offline',
  online: 'Online',
}

function Presence({ tile: t }: { tile: Tile }) {
  const look = t.look === 'fault' && t.state === 'offline' ? 'Offline, with a fault' : looks[t.look]
  return (
    <div class={'presence ' + t.look}>
      <p>
        <span class="state">
          <Mark of={t.look} />
          <b>{look}</b>
        </span>
        {t.look === 'lost' && <span class="muted"> nobody knows since when: power or network are gone</span>}
        {t.since && t.look !== 'lost' && (
          <span class="muted">
            {' '}
            {t.state === 'online' ? 'connected' : ''} for {age(t.since)}, since {clock(t.since)}
          </span>
        )}
      </p>
      {t.note && <p class="note">{t.note}</p>}
      <dl class="figures">
        <Figure
          name="Member"
          value={t.member ?? dash}
          unit={t.member_at && t.members ? `${t.member_at} of ${t.members}` : ''}
        />
        <Figure name="Mode" value={t.mode ?? dash} />
        <Figure name="Jobs" value={fixed(t.jobs_s, 1)} unit="/s" />
        <Figure name="Late" value={percent(t.late)} unit="%" bad={t.late !== undefined && t.late >= 0.05} />
        <Figure name="Inference p95" value={ms(t.p95_ms)} unit="ms" />
        <Figure name="Heat" value={fixed(t.temp_c)} unit="°C" />
        <Figure name="Queue" value={waiting(t, t.queue)} unit={t.queue === 1 ? 'job' : 'jobs'} />
        <Figure
          name="Outbox"
          value={waiting(t, t.outbox)}
          unit="waiting"
          bad={t.outbox !== undefined && t.outbox > 100}
        />
        <Figure name="Family" value={t.family ?? dash} />
        <Figure name="Agent" value={t.version ?? dash} />
      </dl>
      {t.labels && <p class="labels muted">{labelList(t.labels)}</p>}
    </div>
  )
}

// waiting is how many wait. None is not written; of one that is not there nobody knows.
const waiting = (t: Tile, n: number | undefined) => (t.jobs_s === undefined ? dash : fixed(n ?? 0))

function Figure({ name, value, unit, bad }: { name: string; value: string; unit?: string; bad?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={bad ? 'bad' : ''} title={value}>
        {value}
        {unit && value !== dash && <span class="unit"> {unit}</span>}
      </dd>
    </div>
  )
}

// Why shows the front, and what the last decision knew of it.
function Why({ d }: { d: DeviceScreen }) {
  const last = d.decisions?.[d.decisions.length - 1]
  const goal = d.aim?.goal
  const points: Point[] = (d.front ?? []).map((m) => ({
    member: m.name,
    top1: m.top1,
    p50_ms: m.p50_ms ?? null,
    p95_ms: m.p95_ms ?? null,
    operating: m.operating ?? false,
    now_ms: last?.options.find((o) => o.member === m.name)?.predicted_ms ?? null,
  }))
  const operating = d.front?.find((m) => m.operating)
  return (
    <section class="card why" aria-labelledby="why">
      <h2 id="why">{operating ? <>Why {operating.name} runs</> : 'What it can run'}</h2>
      <Front
        points={points}
        deadline={last && last.slack_ms > 0 ? last.slack_ms : goal?.deadline_ms}
        least={goal?.min_top1}
      />
      {points.length > 0 && (
        <p class="legend-line muted">
          <span>
            <i class="dot-key" /> alone: median, and a tail to p95
          </span>
          <span>
            <i class="ring-key" /> expected now
          </span>
          <span>
            <i class="operating-key" /> operating
          </span>
        </p>
      )}
      {last ? (
        <LastDecision of={last} />
      ) : (
        <p class="muted">
          No decision has been told of yet: the device explains the last ones with its telemetry, once it answers
          frames.
        </p>
      )}
    </section>
  )
}

const reasons: Record<string, string> = {
  best: 'best for this job alone',
  queue: 'smaller, because others wait',
  batch: 'frames that wait were taken at once',
  hold: 'a better one is too new to be trusted',
  floor: 'raised to the accuracy that was asked for',
  probe: 'to find out about the load',
  fixed: 'it is fixed',
  fastest: 'the fastest, as none is likely to be in time',
  cheapest: 'the cheapest that is accurate enough',
  infeasible: 'none is accurate enough in this time',
}

function LastDecision({ of: l }: { of: Decision }) {
  const reason = reasons[l.reason]
  return (
    <>
      <p>
        The last job: <b>{l.member}</b>, {reason ?? l.reason}
        {reason && <span class="muted"> ({l.reason})</span>}: {ms(l.slack_ms)} ms were left
        {l.waiting > 0 && <>, {l.waiting} more waited</>}; the load: {l.belief}.
        {l.infer_ms !== undefined && (
          <>
            {' '}
            It took {ms(l.infer_ms)} ms, {ms(l.predicted_ms)} ms were expected.
          </>
        )}
        <span class="muted"> {clock(l.ts)}</span>
      </p>
      {l.options.length > 0 && (
        <div class="wide">
          <table class="table">
            <thead>
              <tr>
                <th>Member</th>
                <th class="num">Expected, ms</th>
                <th class="num">In time, %</th>
                <th class="num">Worth, %</th>
              </tr>
            </thead>
            <tbody>
              {l.options.map((o) => (
                <tr key={o.member} class={o.member === l.member ? 'chosen' : ''}>
                  <td>
                    {o.member}
                    {o.member === l.member && <span class="unit"> chosen</span>}
                  </td>
                  <td class="num">{ms(o.predicted_ms)}</td>
                  <td class="num">{percent(o.chance)}</td>
                  <td class="num">{fixed(o.worth, 1)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  )
}

function OverTime({ d, switches }: { d: DeviceScreen; switches: DeviceEvent[] }) {
  const s = d.series
  const members = (d.front ?? []).map((m) => m.name)
  const panels: Panel[] = s
    ? [
        {
          title: 'Member',
          unit: '',
          steps: members,
          lines: [
            {
              name: '',
              look: 'first',
              say: (v) => (v == null ? dash : (members[v] ?? dash)),
              values: s.member.map((m) => (members.includes(m) ? members.indexOf(m) : null)),
            },
          ],
        },
        {
          title: 'Latency of inference',
          unit: 'ms',
          least: 0,
          lines: [
            { name: 'p95', values: s.p95_ms, look: 'first', say: ms },
            { name: 'median', values: s.p50_ms, look: 'second', say: ms },
          ],
          ...(d.aim?.goal?.deadline_ms != null && { limit: { value: d.aim.goal.deadline_ms, name: 'deadline' } }),
        },
        {
          title: 'Load by other programs',
          unit: '% of CPU',
          least: 0,
          most: 100,
          lines: [{ name: '', values: s.others_percent, look: 'first', say: (v) => fixed(v) }],
        },
        {
          title: 'Late',
          unit: '% of jobs',
          least: 0,
          most: 10,
          lines: [
            {
              name: '',
              values: s.late.map((v) => (v == null ? null : 100 * v)),
              look: 'first',
              say: (v) => fixed(v, 1),
            },
          ],
        },
        {
          title: 'Heat, hottest sensor',
          unit: '°C',
          lines: [{ name: '', values: s.temp_c, look: 'first', say: (v) => fixed(v, 1) }],
        },
        {
          title: 'Waiting',
          unit: '',
          least: 0,
          most: 4,
          lines: [
            { name: 'jobs', values: s.queue, look: 'first', say: (v) => fixed(v) },
            { name: 'messages in the outbox', values: s.outbox, look: 'second', say: (v) => fixed(v) },
          ],
        },
      ]
    : []
  const marks: Switch[] = switches.map((e) => ({
    t: Date.parse(e.ts),
    text: `${clock(e.ts)}: ${e.from} to ${e.member}. ${e.detail ?? ''}`,
  }))
  return (
    <section class="card over-time" aria-labelledby="over-time">
      <h2 id="over-time">Over time</h2>
      <Series
        t={s?.t ?? []}
        panels={panels.filter((p) => p.lines.some((l) => l.values.some((v) => v != null)))}
        switches={marks}
      />
    </section>
  )
}

function Switches({ list, aim }: { list: DeviceEvent[]; aim: Aim | undefined }) {
  return (
    <section class="card switches" aria-labelledby="switches">
      <h2 id="switches">Switches of the member</h2>
      {list.length === 0 && (
        <p class="muted">None that was told of{aim?.mode?.startsWith('fixed:') && ': its mode keeps one member'}.</p>
      )}
      <ol class="log" tabIndex={0}>
        {list
          .slice(-40)
          .reverse()
          .map((e) => (
            <li key={e.ts + e.text}>
              <time class="muted" dateTime={e.ts}>
                {clock(e.ts)}
              </time>
              <div>
                <b>{e.from === e.member ? `${e.member}, by way of others` : `${e.from} → ${e.member}`}</b>
                <br />
                {e.detail}
              </div>
            </li>
          ))}
      </ol>
    </section>
  )
}

function Events({ list }: { list: DeviceEvent[] }) {
  return (
    <section class="card events" aria-labelledby="events">
      <h2 id="events">Events</h2>
      {list.length === 0 && <p class="muted">None since this page listens.</p>}
      <ol class="log" tabIndex={0}>
        {list
          .slice(-40)
          .reverse()
          .map((e) => (
            <li key={e.ts + e.text} class={e.severity}>
              <time class="muted" dateTime={e.ts}>
                {clock(e.ts)}
              </time>
              <div>{e.text}</div>
            </li>
          ))}
      </ol>
    </section>
  )
}

function Commands({ list }: { list: Command[] }) {
  return (
    <section class="card commands" aria-labelledby="commands">
      <h2 id="commands">Commands</h2>
      {list.length === 0 && <p class="muted">None since this page listens.</p>}
      <ol class="log" tabIndex={0}>
        {[...list].reverse().map((c) => (
          <li key={c.verb + c.id} class={c.state && c.state !== 'succeeded' && c.reason ? 'error' : ''}>
            <time class="muted" dateTime={c.ts}>
              {clock(c.ts)}
            </time>
            <div>
              <b>{c.verb}</b> {c.asked}
              <span class="muted"> · </span>
              {(c.state ?? 'no answer yet').replace('_', ' ')}
              {(c.reason || c.detail) && <>: {[c.reason, c.detail].filter(Boolean).join(', ')}</>}
              <br />
              <span class="muted id">{c.id}</span>
            </div>
          </li>
        ))}
      </ol>
    </section>
  )
}

function Facts({ d }: { d: DeviceScreen }) {
  const groups: { name: string; values: string[] }[] = []
  for (const f of d.facts ?? []) {
    const last = groups[groups.length - 1]
    if (last?.name === f.name) last.values.push(f.value)
    else groups.push({ name: f.name, values: [f.value] })
  }
  return (
    <section class="card facts" aria-labelledby="facts">
      <h2 id="facts">All that is known</h2>
      <dl>
        {groups
          .filter((g) => g.name !== 'event')
          .map((g) => (
            <div key={g.name}>
              <dt>{g.name}</dt>
              {g.values.map((v) => (
                <dd key={v}>{v}</dd>
              ))}
            </div>
          ))}
      </dl>
    </section>
  )
}
