// What cannot be drawn: said in its place, while the rest of the page goes on.

import { Component, type ComponentChildren } from "preact";

/** With another key, it begins anew. */
export class Boundary extends Component<{ children: ComponentChildren }, { problem: string }> {
  override state = { problem: "" };

  override componentDidCatch(error: unknown): void {
    console.error(error);
    this.setState({ problem: String(error) });
  }

  override render() {
    if (!this.state.problem) return this.props.children;
    return (
      <section class="failed" role="alert">
        <p class="wrong">This cannot be shown: {this.state.problem}</p>
        <p>Choose another view or run, tick fewer runs in the table, or try it once more.</p>
        <p><button onClick={() => this.setState({ problem: "" })}>try again</button></p>
      </section>
    );
  }
}
