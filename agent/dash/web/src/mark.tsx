// The marks of states differ in shape, so that nobody needs their colours.
const shapes = {
  online: <circle cx="6" cy="6" r="3.5" fill="currentColor" />,
  offline: <circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" stroke-width="1.6" />,
  updating: <path d="M6 1v8M2.5 5.5 6 9.2l3.5-3.7M2 11.2h8" fill="none" stroke="currentColor" stroke-width="1.6" />,
  fault: <path d="M6 .8 11.6 11H.4Z" fill="currentColor" />,
  lost: <path d="m2 2 8 8m0-8-8 8" fill="none" stroke="currentColor" stroke-width="2.2" />,
  waiting: <path d="M3.5 2v8m5-8v8" fill="none" stroke="currentColor" stroke-width="2.4" />,
  done: <path d="m1.5 6.5 3 3 6-7" fill="none" stroke="currentColor" stroke-width="2" />,
}

export type Shape = keyof typeof shapes

export function Mark({ of }: { of: Shape }) {
  return (
    <svg class={'mark ' + of} viewBox="0 0 12 12" aria-hidden="true">
      {shapes[of]}
    </svg>
  )
}
