import { useEffect, useRef } from 'preact/hooks'

const keys: [string[], string][] = [
  [['/'], 'filter the fleet'],
  [['←', '↑', '→', '↓'], 'from device to device; Home, End, Page Up and Page Down as well'],
  [['Enter'], 'open what has the focus'],
  [['Esc'], 'back; in the filter: empty it'],
  [['f'], 'the fleet'],
  [['r'], 'the rollouts'],
  [['?'], 'this'],
]

const conditions: [string, string][] = [
  ['label.site=berlin', 'a label; * stands for any text'],
  ['state!=online', 'online, offline or lost'],
  ['group=@gate', 'a group of the device'],
  ['device=cam-*', 'the name'],
  ['mode=balanced, member=23.1M', 'both must hold'],
  ['update=failed', 'how the last one ended, or its step'],
  ['can=20ms@0.76', 'a member with a p95 of at most 20 ms and a top-1 of at least 0.76'],
]

export function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog ref={dialog} class="help" onClose={close} aria-labelledby="help-head">
      <h2 id="help-head">Keys</h2>
      <dl>
        {keys.map(([names, does]) => (
          <div key={does}>
            <dt>
              {names.map((n) => (
                <kbd key={n}>{n}</kbd>
              ))}
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <h2>What a filter may say</h2>
      <dl>
        {conditions.map(([text, means]) => (
          <div key={text}>
            <dt>
              <code>{text}</code>
            </dt>
            <dd>{means}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog" class="row">
        <button type="submit" class="first">
          Close
        </button>
      </form>
    </dialog>
  )
}
