import { useEffect, useState } from 'preact/hooks'

// Where somebody is, as the address behind # has it: it can be kept, and sent to others.
//
//   #/?where=EXPR   #/device/NAME?where=EXPR   #/rollouts   #/rollouts/ID
export type Route =
  | { screen: 'fleet'; where: string }
  | { screen: 'device'; where: string; device: string }
  | { screen: 'rollouts' }
  | { screen: 'rollout'; rollout: string }

export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s)
  const where = new URLSearchParams(query).get('where') ?? ''
  const [screen, name = ''] = path.split('/').map(decoded)
  if (screen === 'device' && name) return { screen, where, device: name }
  if (screen === 'rollouts') return name ? { screen: 'rollout', rollout: name } : { screen }
  return { screen: 'fleet', where }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

export function address(to: Route): string {
  switch (to.screen) {
    case 'fleet':
      return '#/' + query(to.where)
    case 'device':
      return '#/device/' + encodeURIComponent(to.device) + query(to.where)
    case 'rollouts':
      return '#/rollouts'
    case 'rollout':
      return '#/rollouts/' + encodeURIComponent(to.rollout)
  }
}

const query = (where: string) => (where ? '?' + new URLSearchParams({ where }) : '')

export function go(to: Route, replace = false): void {
  if (replace) {
    history.replaceState(null, '', address(to))
    dispatchEvent(new HashChangeEvent('hashchange'))
  } else {
    location.hash = address(to)
  }
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.hash))
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash))
    addEventListener('hashchange', changed)
    return () => removeEventListener('hashchange', changed)
  }, [])
  return route
}
