import { useEffect, useRef, useState } from 'preact/hooks'
import { Device } from './device'
import { Fleet, type Place, type Window } from './fleet'
import { Help } from './help'
import { Mark } from './mark'
import { RolloutView } from './rollout'
import { Rollouts } from './rollouts'
import { address, go, useRoute, type Route } from './route'
import { Said } from './said'
import { useSteering, type Steering } from './steer'
import { useStream, type Picture } from './stream'
import type { Look } from './wire'
import { age, clock } from './words'

const devicesAtOnce = 100 // of a rollout

export function App() {
  const route = useRoute()
  const [only, setOnly] = useState<Look | ''>('')
  const [window, setWindow] = useState<Window>({ from: 0, to: 48 })
  const [shown, setShown] = useState(devicesAtOnce)
  const [help, setHelp] = useState(false)
  const place = useRef<Place>({ where: '', active: 0, scroll: 0 })
  const picture = useStream(question(route, only, window, shown))
  const steering = useSteering(picture.steer === 'token')
  useKeys(route, () => setHelp(true))
  useArrival(route)
  useClock()
  useEffect(() => setShown(devicesAtOnce), [route.screen === 'rollout' ? route.rollout : ''])
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(e) => {
          e.preventDefault()
          document.querySelector<HTMLElement>('main')?.focus()
        }}
      >
        To the content
      </a>
      <Bar picture={picture} route={route} steering={steering} help={() => setHelp(true)} />
      <Trouble picture={picture} />
      <main id="main" tabIndex={-1}>
        {route.screen === 'fleet' && (
          <Fleet
            {...{ picture, only, window, setWindow, place }}
            where={route.where}
            setOnly={(l) => {
              setOnly(l)
              scrollTo(0, 0)
            }}
          />
        )}
        {route.screen === 'device' && (
          <Device key={route.device} picture={picture} name={route.device} where={route.where} steering={steering} />
        )}
        {route.screen === 'rollouts' && <Rollouts picture={picture} />}
        {route.screen === 'rollout' && (
          <RolloutView
            key={route.rollout}
            picture={picture}
            id={route.rollout}
            steering={steering}
            shown={shown}
            more={() => setShown(shown + devicesAtOnce)}
          />
        )}
      </main>
      {steering.dialog}
      {help && <Help close={() => setHelp(false)} />}
    </>
  )
}

// question is what is on the screen, as the stream is asked for it.
function question(route: Route, only: Look | '', w: Window, shown: number): string {
  const q = new URLSearchParams()
  switch (route.screen) {
    case 'fleet':
      if (route.where) q.set('where', route.where)
      if (only) q.set('only', only)
      q.set('from', String(w.from))
      q.set('to', String(Math.max(w.to, w.from + 24)))
      break
    case 'device':
      q.set('device', route.device)
      break
    case 'rollouts':
      q.set('rollouts', '1')
      break
    case 'rollout':
      q.set('rollout', route.rollout)
      q.set('from', '0')
      q.set('to', String(shown))
  }
  return q.toString()
}

function Bar({
  picture,
  route,
  steering,
  help,
}: {
  picture: Picture
  route: Route
  steering: Steering
  help: () => void
}) {
  const fleet = route.screen === 'fleet' || route.screen === 'device'
  return (
    <header class="bar">
      <a class="name" href={address({ screen: 'fleet', where: '' })}>
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <path d="M5 27C8 14 15 7 27 6" />
          <circle cx="13" cy="14" r="5" />
        </svg>
        Limber
      </a>
      <nav aria-label="Screens">
        <a
          href={address({ screen: 'fleet', where: 'where' in route ? route.where : '' })}
          aria-current={fleet ? 'page' : undefined}
        >
          Fleet
        </a>
        <a href={address({ screen: 'rollouts' })} aria-current={fleet ? undefined : 'page'}>
          Rollouts
        </a>
      </nav>
      <div class="end">
        {picture.fleet && <span class="fleet-name muted clip">{picture.fleet}</span>}
        <Link picture={picture} />
        <Rights picture={picture} steering={steering} />
        <button type="button" class="plain" aria-label="Keys and filters" onClick={help}>
          ?
        </button>
      </div>
    </header>
  )
}

function Link({ picture }: { picture: Picture }) {
  const ok = picture.heard > 0 && !picture.deaf && picture.link?.ok === true
  const word = picture.heard === 0 && !picture.deaf ? 'connecting' : ok ? 'live' : 'not live'
  return (
    <span class="state" title={picture.link?.broker}>
      <Mark of={ok ? 'online' : word === 'connecting' ? 'offline' : 'lost'} />
      {word}
    </span>
  )
}

function Rights({ picture, steering }: { picture: Picture; steering: Steering }) {
  if (picture.steer === 'denied')
    return (
      <span class="muted rights" title="The broker drops what this page's user sends">
        read only
      </span>
    )
  if (picture.steer !== 'token') return <span class="muted rights">{picture.steer && 'read only'}</span>
  return steering.token ? (
    <button type="button" class="plain rights" onClick={steering.forget}>
      Forget token
    </button>
  ) : (
    <button type="button" class="plain rights" onClick={() => void steering.ask()}>
      Steer
    </button>
  )
}

function Trouble({ picture }: { picture: Picture }) {
  const { link } = picture
  let text = null
  let calm = false
  if (picture.deaf) {
    text = (
      <>
        <strong>limber dash does not answer.</strong> Is it still running, and has it fewer than 64 screens open? This
        page tries again by itself.{asOf(picture.heard)}
      </>
    )
  } else if (link && !link.ok) {
    text = (
      <>
        <strong>No connection to the broker</strong> at <code>{link.broker}</code>
        {link.since && ` for ${age(link.since)}`}
        {link.trouble && (
          <>
            : <Said text={link.trouble} />
          </>
        )}
        . Does it run, and is this its address? <code>limber dash</code> tries again by itself.
        {link.since && asOf(Date.parse(link.since))}
      </>
    )
  } else if (link?.trouble) {
    text = <Said text={link.trouble} />
    calm = true
  } else if (picture.steer === 'denied') {
    text = (
      <>
        The broker dropped what was sent: this page's user may not steer. Start <code>limber dash</code> as an operator
        to steer.
      </>
    )
    calm = true
  }
  return (
    <div role="status">
      {text && (
        <div class={calm ? 'banner calm' : 'banner'}>
          <p>{text}</p>
        </div>
      )}
    </div>
  )
}

const asOf = (t: number) => (t > 0 ? ` What is shown is as of ${clock(t)}.` : '')

// useKeys are those that hold everywhere but where somebody writes.
function useKeys(route: Route, help: () => void) {
  useEffect(() => {
    const pressed = (e: KeyboardEvent) => {
      const at = e.target as HTMLElement
      if (
        e.altKey ||
        e.ctrlKey ||
        e.metaKey ||
        document.querySelector('dialog[open]') ||
        at.closest('input, select, textarea')
      )
        return
      switch (e.key) {
        case '/':
          e.preventDefault()
          if (route.screen !== 'fleet') go({ screen: 'fleet', where: '' })
          setTimeout(() => document.querySelector<HTMLInputElement>('#where')?.select())
          break
        case '?':
          help()
          break
        case 'f':
          go({ screen: 'fleet', where: 'where' in route ? route.where : '' })
          break
        case 'r':
          go({ screen: 'rollouts' })
          break
        case 'Escape':
          if (route.screen === 'device') go({ screen: 'fleet', where: route.where })
          else if (route.screen === 'rollout') go({ screen: 'rollouts' })
          else if (route.screen === 'rollouts') go({ screen: 'fleet', where: '' })
      }
    }
    addEventListener('keydown', pressed)
    return () => removeEventListener('keydown', pressed)
  }, [address(route)])
}

// useArrival gives another screen its title, and its head the focus, so that it is read out.
function useArrival(route: Route) {
  const first = useRef(true)
  useEffect(() => {
    const name =
      route.screen === 'device'
        ? route.device
        : route.screen === 'rollout'
          ? route.rollout
          : route.screen === 'rollouts'
            ? 'Rollouts'
            : 'Fleet'
    document.title = name + ' · Limber'
    if (!first.current) {
      if (route.screen !== 'fleet') scrollTo(0, 0)
      const head = document.querySelector<HTMLElement>('main h1')
      if (!document.activeElement?.closest('.filter')) head?.focus({ preventScroll: true })
    }
    first.current = false
  }, [route.screen, 'device' in route ? route.device : '', 'rollout' in route ? route.rollout : ''])
}

// useClock has ages grow where nothing else changes.
function useClock() {
  const [, tick] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 5000)
    return () => clearInterval(timer)
  }, [])
}
