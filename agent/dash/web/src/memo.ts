import { Component, h, type ComponentType } from 'preact'

// memo draws a component anew only if one of its properties is another value; functions do
// not count, and of objects what is in them one level down does.
export function memo<P extends object>(of: (props: P) => preact.JSX.Element): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>) {
      return !same(this.props, next, true)
    }
    override render(props: P) {
      return h(of, props as P & preact.Attributes)
    }
  }
}

function same(a: object, b: object, deeper: boolean): boolean {
  const keys = Object.keys(a) as (keyof typeof a)[]
  return keys.length === Object.keys(b).length && keys.every((key) => equal(a[key], b[key], deeper))
}

function equal(a: unknown, b: unknown, deeper: boolean): boolean {
  if (a === b || (typeof a === 'function' && typeof b === 'function')) return true
  return deeper && isObject(a) && isObject(b) && same(a, b, false)
}

const isObject = (v: unknown): v is object => typeof v === 'object' && v !== null
