import { useState } from 'preact/hooks'

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
      {isSecureContext && <button type="button" class="plain" onClick={copy}>{copied ? 'Copied' : 'Copy'}</button>}
    </div>
  )
}
