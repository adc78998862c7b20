import { useState } from 'preact/hooks'
import type { Picture } from './stream'

// Command is one to paste into a terminal.
export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false)
  const copy = async () => {
    await navigator.clipboard.writeText(text)
    setCopied(true)
    setTimeout(() => setCopied(false), 2000)
  }
  return (
    <div class="command">
      <code tabIndex={0}>{text}</code>
      {isSecureContext && (
        <button type="button" class="plain" onClick={copy}>
          {copied ? 'Copied' : 'Copy'}
        </button>
      )}
    </div>
  )
}

// flagsOf are the flags by which a command reaches the same fleet.
export function flagsOf({ link, fleet }: Picture): string {
  return (
    (link && link.broker !== 'mqtt://127.0.0.1:1883' ? ' --broker ' + link.broker : '') +
    (fleet && fleet !== 'demo' ? ' --fleet ' + fleet : '')
  )
}
