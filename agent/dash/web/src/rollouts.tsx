import { Mark, type Shape } from './mark'
import { address } from './route'
import { Said } from './said'
import { goalText } from './steer'
import type { Picture } from './stream'
import type { Rollout, RolloutCounts, RolloutPhase, RolloutSpec } from './wire'
import { Command, flagsOf } from './command'
import { clock, count, plural } from './words'

export function Rollouts({ picture }: { picture: Picture }) {
  const r = picture.rollouts
  const all = (r?.order ?? []).map((id) => r?.docs?.[id]).filter((doc) => doc !== undefined)
  return (
    <>
      <h1 tabIndex={-1}>Rollouts</h1>
      {r?.trouble && (
        <p class="trouble">
          <Said text={r.trouble} />
        </p>
      )}
      {!r && <p class="muted wait">Reading the rollouts …</p>}
      {r && all.length === 0 && <None flags={flagsOf(picture)} />}
      <ul class="rollouts">
        {all.map((doc) => (
          <Row key={doc.id} doc={doc} />
        ))}
      </ul>
    </>
  )
}

function None({ flags }: { flags: string }) {
  return (
    <div class="nobody">
      <h2>No rollout has been started</h2>
      <p>
        A rollout brings a family, a release, a mode or a goal to the devices of an expression, phase by phase, and
        stops where a gate is not kept. The controller runs it:
      </p>
      <Command text={'limber fleet serve --state ./controller' + flags} />
      <p>One is started with:</p>
      <Command text={'limber fleet rollout start --family mine.family --where label.site=berlin' + flags} />
    </div>
  )
}

export const shapes: Record<string, Shape> = {
  running: 'updating',
  waiting: 'waiting',
  paused: 'waiting',
  approval: 'waiting',
  done: 'done',
  failed: 'fault',
  aborted: 'lost',
}

export const stateWords: Record<string, string> = {
  running: 'running',
  waiting: 'waiting',
  paused: 'paused',
  approval: 'waits for your approval',
  done: 'done',
  failed: 'failed',
  aborted: 'aborted',
}

export function State({ state }: { state: string | undefined }) {
  return (
    <span class={'state rollout-state ' + state}>
      <Mark of={shapes[state ?? ''] ?? 'offline'} />
      {stateWords[state ?? ''] ?? state}
    </span>
  )
}

function Row({ doc }: { doc: Rollout }) {
  const phases = doc.phases ?? []
  return (
    <li class={'card rollout-row ' + doc.state}>
      <div class="what">
        <a href={address({ screen: 'rollout', rollout: doc.id })}>{doc.id}</a>
        <span>{what(doc)}</span>
      </div>
      <div class="how">
        <State state={doc.state} />
        {doc.phase !== undefined && phases.length > 0 && (
          <span class="muted">
            phase {doc.phase} of {phases.length}
          </span>
        )}
        {doc.ts && <span class="muted">started {clock(doc.ts)}</span>}
      </div>
      <PhaseBars phases={phases} />
      {doc.why && (
        <p class="why-line">
          <Said text={doc.why} />
        </p>
      )}
    </li>
  )
}

export function what(doc: Rollout): string {
  const s = doc.spec
  if (!s) return doc.kind ?? ''
  return `${thing(s)} to ${s.where || 'all devices'}`
}

function thing(s: RolloutSpec): string {
  if (s.family) return `family ${s.family.name}`
  if (s.release) return `release ${s.release.version}`
  if (s.goal) return `goal ${goalText(s.goal)}`
  return `mode ${s.mode}`
}

// PhaseBars has a bar a phase, as wide as it has devices, but none too narrow to be seen.
export function PhaseBars({ phases }: { phases: RolloutPhase[] }) {
  return (
    <div class="phase-bars" aria-hidden="true">
      {phases.map((p, i) => (
        <div key={i} style={{ flexGrow: Math.max(1, Math.sqrt(p.size)) }}>
          <CountBar counts={p.counts} size={p.size} />
        </div>
      ))}
    </div>
  )
}

const kinds: { key: keyof RolloutCounts; word: string; look: string }[] = [
  { key: 'failed', word: 'failed', look: 'bad' },
  { key: 'timed_out', word: 'timed out', look: 'bad' },
  { key: 'rolled_back', word: 'rolled back', look: 'bad' },
  { key: 'succeeded', word: 'succeeded', look: 'good' },
  { key: 'already', word: 'already there', look: 'good' },
  { key: 'running', word: 'under way', look: 'now' },
  { key: 'offline', word: 'offline', look: 'off' },
  { key: 'superseded', word: 'superseded', look: 'off' },
  { key: 'cancelled', word: 'cancelled', look: 'off' },
  { key: 'pending', word: 'pending', look: 'open' },
]

export function CountBar({ counts, size }: { counts: RolloutCounts; size: number }) {
  return (
    <div class="count-bar">
      {size > 0 &&
        kinds
          .filter((k) => (counts[k.key] ?? 0) > 0)
          .map((k) => <span key={k.key} class={k.look} style={{ flexGrow: counts[k.key] ?? 0 }} />)}
    </div>
  )
}

export function countText(counts: RolloutCounts): string {
  return kinds
    .filter((k) => (counts[k.key] ?? 0) > 0)
    .map((k) => `${count(counts[k.key] ?? 0)} ${k.word}`)
    .join(', ')
}

export const devices = (n: number) => plural(n, 'device')
