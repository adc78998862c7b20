import { useEffect, useRef, useState } from 'preact/hooks'
import { Said } from './said'
import type { ActBody, AimBody, Fault, Goal, Outcome } from './wire'
import { ms, percent } from './words'

// Steering takes the token of the server's token file. It is asked for once, kept for as
// long as the tab is open, and sent with each request; no other page can send it.

const kept = 'limber-token'

export interface Steering {
  allowed: boolean // the server has a token file, and the broker took what was sent
  token: string | null
  ask: () => Promise<string | null> // the token, from who looks at the page if need be
  forget: () => void
  dialog: preact.JSX.Element | null
}

export function useSteering(allowed: boolean): Steering {
  const [token, setToken] = useState(() => sessionStorage.getItem(kept))
  const [asking, setAsking] = useState<((token: string | null) => void) | null>(null)
  const answer = (given: string | null) => {
    if (given) sessionStorage.setItem(kept, given)
    setToken(given)
    asking?.(given)
    setAsking(null)
  }
  return {
    allowed,
    token,
    ask: () => (token ? Promise.resolve(token) : new Promise((done) => setAsking(() => done))),
    forget: () => {
      sessionStorage.removeItem(kept)
      setToken(null)
    },
    dialog: asking ? <TokenDialog answer={answer} /> : null,
  }
}

function TokenDialog({ answer }: { answer: (token: string | null) => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [token, setToken] = useState('')
  const [wrong, setWrong] = useState('')
  useEffect(() => dialog.current?.showModal(), [])
  const submit = async (e: Event) => {
    e.preventDefault()
    const said = await post('steer', {}, token.trim())
    if (said.ok) answer(token.trim())
    else setWrong(said.text)
  }
  return (
    <dialog ref={dialog} onCancel={() => answer(null)} aria-labelledby="token-head">
      <form onSubmit={submit}>
        <h2 id="token-head">Steering takes the token</h2>
        <p class="muted">
          It is in the file that <code>limber dash --token-file</code> names, and is kept until this tab is closed.
        </p>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          required
          value={token}
          aria-invalid={wrong !== ''}
          aria-describedby="token-wrong"
          onInput={(e) => setToken(e.currentTarget.value)}
        />
        <p id="token-wrong" class="wrong" role="alert">
          <Said text={wrong} />
        </p>
        <div class="row">
          <button type="submit" class="first">
            Continue
          </button>
          <button type="button" onClick={() => answer(null)}>
            Cancel
          </button>
        </div>
      </form>
    </dialog>
  )
}

export interface Answer {
  ok: boolean
  text: string // a sentence
  nearest?: Goal // that can be had
  wrongToken?: boolean
}

// post asks the server for something, and says what came of it in words.
export async function post(path: string, body: AimBody | ActBody, token: string): Promise<Answer> {
  let answer: Response
  try {
    answer = await fetch('./api/' + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer ' + token },
      body: JSON.stringify(body),
    })
  } catch {
    return { ok: false, text: 'limber dash does not answer: is it still running?' }
  }
  const said = (await answer.json().catch(() => ({}))) as Partial<Outcome & Fault>
  if (!answer.ok) {
    const text = said.error ?? `limber dash answered with status ${answer.status}`
    return { ok: false, text, wrongToken: answer.status === 401 }
  }
  if (said.state === 'succeeded') return { ok: true, text: said.detail ? 'Done: ' + said.detail : 'Done.' }
  const why = [said.reason, said.detail].filter(Boolean).join(': ')
  const text = `${(said.state ?? 'no answer').replace('_', ' ')}${why && ', ' + why}`
  return said.nearest ? { ok: false, text, nearest: said.nearest } : { ok: false, text }
}

export interface Request {
  busy: boolean
  said: Answer | null
  send: (path: string, body: AimBody | ActBody) => Promise<void>
}

// useRequest sends one request at a time, and has what came of the last.
export function useRequest(steering: Steering): Request {
  const [busy, setBusy] = useState(false)
  const [said, setSaid] = useState<Answer | null>(null)
  const send = async (path: string, body: AimBody | ActBody) => {
    const token = await steering.ask()
    if (!token) return
    setBusy(true)
    setSaid(null)
    const answer = await post(path, body, token)
    if (answer.wrongToken) steering.forget()
    setSaid(answer)
    setBusy(false)
  }
  return { busy, said, send }
}

export function Outcomes({ request }: { request: Request }) {
  const { busy, said } = request
  return (
    <p class={'outcome ' + (said ? (said.ok ? 'ok' : 'wrong') : 'muted')} role="status">
      {busy ? 'Waiting for the answer …' : said && <Said text={said.text} />}
      {said?.nearest && <> Nearest that can be had: {goalText(said.nearest)}.</>}
    </p>
  )
}

export function goalText(g: Goal): string {
  const parts = []
  if (g.deadline_ms != null) parts.push(`deadline ${ms(g.deadline_ms)} ms`)
  if (g.min_top1 != null) parts.push(`top-1 at least ${percent(g.min_top1)} %`)
  if (g.max_watts != null) parts.push(`at most ${g.max_watts} W`)
  if (g.prefer) parts.push(`prefer ${g.prefer}`)
  return parts.join(', ')
}
