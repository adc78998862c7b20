import { useEffect, useState } from 'preact/hooks'
import type { DeviceScreen, Message, RolloutScreen, RolloutsScreen, Series } from './wire'

// One stream has what is on the screen: first all of it, then only what changed. Another
// screen is another stream; what was shown stays until the first message of that.

export interface Picture extends Message {
  query: string // whose picture it is; '' until the first message
  heard: number // ms since 1970, of the last message; 0: none yet
  deaf: boolean // the server does not answer
}

const points = 240 // of a series, that are kept, as the server does
const lines = 200 // of events and decisions, likewise
const again = 5000 // ms

export function useStream(query: string): Picture {
  const [picture, setPicture] = useState<Picture>({ query: '', heard: 0, deaf: false })
  useEffect(() => {
    let events: EventSource | undefined
    let timer = 0
    const connect = () => {
      const source = new EventSource('./api/events?' + query)
      events = source
      source.onmessage = (e) => {
        const m = JSON.parse(e.data as string) as Message
        setPicture((was) => ({ ...merge(was, m), query, heard: Date.now(), deaf: false }))
      }
      source.onerror = () => {
        setPicture((was) => ({ ...was, deaf: true }))
        // What was refused, by a proxy or as too many look already, does not try again by itself.
        if (source.readyState === EventSource.CLOSED) timer = setTimeout(connect, again)
      }
    }
    const end = () => {
      clearTimeout(timer)
      events?.close()
    }
    // A browser has six connections to a server for all its tabs: those that nobody sees give theirs back.
    const seen = () => {
      end()
      if (!document.hidden) connect()
    }
    seen()
    document.addEventListener('visibilitychange', seen)
    return () => {
      document.removeEventListener('visibilitychange', seen)
      end()
    }
  }, [query])
  return picture
}

export function merge(was: Message, m: Message): Message {
  if (m.first) return m
  const is = { ...was, ...m }
  if (m.tiles && was.tiles) is.tiles = { ...was.tiles, ...m.tiles }
  if (m.device && was.device) is.device = mergeDevice(was.device, m.device)
  if (m.rollouts && was.rollouts) is.rollouts = mergeRollouts(was.rollouts, m.rollouts)
  if (m.rollout && was.rollout) is.rollout = mergeRollout(was.rollout, m.rollout)
  return is
}

function mergeDevice(was: DeviceScreen, m: DeviceScreen): DeviceScreen {
  if (was.name !== m.name) return m
  const is = { ...was, ...m }
  if (m.series && was.series) is.series = append(was.series, m.series)
  if (m.events && was.events) is.events = [...was.events, ...m.events].slice(-lines)
  if (m.decisions && was.decisions) is.decisions = [...was.decisions, ...m.decisions].slice(-lines)
  return is
}

function append(was: Series, more: Series): Series {
  return columns(was, (c) => [...was[c], ...more[c]].slice(-points))
}

// sinceClockSet are the points behind the last one at which the device's clock did not go on.
export function sinceClockSet(s: Series): Series {
  let first = s.t.length - 1
  while (first > 0 && s.t[first - 1]! < s.t[first]!) first--
  return first > 0 ? columns(s, (c) => s[c].slice(first)) : s
}

function columns(s: Series, of: (c: keyof Series) => (string | number | null)[]): Series {
  return Object.fromEntries(Object.keys(s).map((c) => [c, of(c as keyof Series)])) as unknown as Series
}

// own is what a document has under a name, which may be one that every object has.
export function own<T>(of: Record<string, T> | undefined, name: string): T | undefined {
  return of && Object.hasOwn(of, name) ? of[name] : undefined
}

function mergeRollouts(was: RolloutsScreen, m: RolloutsScreen): RolloutsScreen {
  return { ...was, ...m, docs: { ...was.docs, ...m.docs } }
}

function mergeRollout(was: RolloutScreen, m: RolloutScreen): RolloutScreen {
  if (was.id !== m.id) return m
  return { ...was, ...m, devices: { ...was.devices, ...m.devices } }
}
