import { Component, type ComponentChildren } from 'preact'

interface Props {
  children: ComponentChildren
}

interface State {
  error?: unknown
}

// Guard has what cannot be drawn say so, and leave the rest of the page as it is.
export class Guard extends Component<Props, State> {
  override state: State = {}

  static override getDerivedStateFromError(error: unknown): State {
    return { error }
  }

  override render() {
    const { error } = this.state
    if (error === undefined) return this.props.children
    return (
      <p class="trouble" role="alert">
        This cannot be drawn: {String(error)}. Please report it, with what <code>limber fleet show --json</code> says.
      </p>
    )
  }
}
