// Said is a sentence of the program, in which commands are between back quotes.
export function Said({ text }: { text: string }) {
  return <>{text.split('`').map((part, i) => (i % 2 ? <code key={i}>{part}</code> : part))}</>
}
