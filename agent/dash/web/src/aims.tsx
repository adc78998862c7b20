import { useEffect, useState } from 'preact/hooks'
import { Outcomes, goalText, useRequest, type Steering } from './steer'
import type { Aim, DeviceScreen, Goal } from './wire'

// Aims is what a device pursues, what it is to pursue, and the controls for it.
export function Aims({ d, steering }: { d: DeviceScreen; steering: Steering }) {
  const aim = d.aim ?? {}
  return (
    <section class="card aims" aria-labelledby="aims">
      <h2 id="aims">Mode and goal</h2>
      <dl class="pairs">
        <dt>Pursues</dt>
        <dd>
          <b class="pursues">{aimText(aim) || 'not known'}</b>
        </dd>
        {aim.desired && (
          <>
            <dt>Desired</dt>
            <dd>
              {aimText(aim.desired)}
              <span class="muted">
                {' '}
                version {aim.desired.version} of {aim.desired.of}
              </span>
            </dd>
          </>
        )}
        {aim.status && (aim.desired || aim.reason) && (
          <>
            <dt>Answer</dt>
            <dd class={aim.status === 'rejected' ? 'wrong' : ''}>
              {aim.status}
              {aim.reason && ', ' + aim.reason}
              {aim.detail && ': ' + aim.detail}
            </dd>
          </>
        )}
        {aim.nearest && (
          <>
            <dt>Nearest</dt>
            <dd>{goalText(aim.nearest)}</dd>
          </>
        )}
      </dl>
      {steering.allowed ? (
        <Controls d={d} aim={aim} steering={steering} />
      ) : (
        <p class="muted">
          To steer from here, start <code>limber dash --token-file FILE</code>; or:{' '}
          <code>limber fleet mode {d.name} MODE</code>
        </p>
      )}
    </section>
  )
}

function aimText(a: { mode?: string; goal?: Goal }): string {
  if (a.goal) return 'goal: ' + goalText(a.goal)
  return a.mode ?? ''
}

function Controls({ d, aim, steering }: { d: DeviceScreen; aim: Aim; steering: Steering }) {
  const request = useRequest(steering)
  const to = (what: string) => `devices/${encodeURIComponent(d.name)}/${what}`
  return (
    <>
      <ModeForm
        modes={modesOf(d)}
        now={aim.mode ?? ''}
        busy={request.busy}
        send={(mode) => request.send(to('mode'), { mode })}
      />
      <GoalForm now={aim.goal} busy={request.busy} send={(goal) => request.send(to('goal'), { goal })} />
      <Outcomes request={request} />
    </>
  )
}

// modesOf are all that can be chosen: fixed:{member} stands for one of each member.
function modesOf(d: DeviceScreen): string[] {
  return (d.modes ?? []).flatMap((m) =>
    m.includes('{member}') ? (d.front ?? []).map((f) => m.replace('{member}', f.name)) : [m],
  )
}

function ModeForm({
  modes,
  now,
  busy,
  send,
}: {
  modes: string[]
  now: string
  busy: boolean
  send: (mode: string) => void
}) {
  const [mode, setMode] = useState<string | null>(null)
  useEffect(() => setMode(null), [now])
  const chosen = mode ?? (modes.includes(now) ? now : (modes[0] ?? ''))
  const submit = (e: Event) => {
    e.preventDefault()
    send(chosen)
  }
  return (
    <form class="aim-form" onSubmit={submit}>
      <label for="mode">Mode</label>
      <select id="mode" value={chosen} onChange={(e) => setMode(e.currentTarget.value)}>
        {modes.map((m) => (
          <option key={m} value={m}>
            {m}
          </option>
        ))}
      </select>
      <button type="submit" disabled={busy || chosen === '' || chosen === now}>
        Set mode
      </button>
    </form>
  )
}

interface Figures {
  deadline: string
  top1: string
  watts: string
}

function GoalForm({ now, busy, send }: { now: Goal | undefined; busy: boolean; send: (goal: Goal) => void }) {
  const [text, setText] = useState<Figures>({
    deadline: now?.deadline_ms?.toString() ?? '',
    top1: now?.min_top1 != null ? String(Math.round(now.min_top1 * 1e4) / 100) : '',
    watts: now?.max_watts?.toString() ?? '',
  })
  const submit = (e: Event) => {
    e.preventDefault()
    const goal: Goal = {}
    if (text.deadline) goal.deadline_ms = Number(text.deadline)
    if (text.top1) goal.min_top1 = Math.round(Number(text.top1) * 1e4) / 1e6
    if (text.watts) goal.max_watts = Number(text.watts)
    send(goal)
  }
  const field = (key: keyof Figures, label: string, unit: string, most?: number) => (
    <label>
      <span>{label}</span>
      <span class="with-unit">
        <input
          type="number"
          min="0"
          max={most}
          step="any"
          inputMode="decimal"
          value={text[key]}
          onInput={(e) => setText({ ...text, [key]: e.currentTarget.value })}
        />
        <span class="unit">{unit}</span>
      </span>
    </label>
  )
  return (
    <form class="aim-form goal" onSubmit={submit}>
      {field('deadline', 'Deadline', 'ms')}
      {field('top1', 'Top-1 at least', '%', 100)}
      {field('watts', 'At most', 'W')}
      <button type="submit" disabled={busy || !(text.deadline || text.top1 || text.watts)}>
        Set goal
      </button>
    </form>
  )
}
