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
    let events: EventSource
    let timer = 0
    const connect = () => {
      events = new EventSource('./api/events?' + query)
      events.onmessage = (e) => {
        const m = JSON.parse(e.data as string) as Message
        setPicture((was) => ({ ...merge(was, m), query, heard: Date.now(), deaf: false }))
      }
      events.onerror = () => {
        setPicture((was) => ({ ...was, deaf: true }))
        // What was refused, by a proxy or as too many look already, does not try again by itself.
        if (events.readyState === EventSource.CLOSED) timer = setTimeout(connect, again)
      }
    }
    connect()
    return () => {
      clearTimeout(timer)
      events.close()
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
  const joined = Object.keys(was).map((key) => {
    const column = key as keyof Series
    return [column, [...was[column], ...more[column]].slice(-points)]
  })
  return Object.fromEntries(joined) as Series
}

function mergeRollouts(was: RolloutsScreen, m: RolloutsScreen): RolloutsScreen {
  return { ...was, ...m, docs: { ...was.docs, ...m.docs } }
}

function mergeRollout(was: RolloutScreen, m: RolloutScreen): RolloutScreen {
  if (was.id !== m.id) return m
  return { ...was, ...m, devices: { ...was.devices, ...m.devices } }
}
