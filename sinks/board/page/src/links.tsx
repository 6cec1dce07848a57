// Links to what the page shows otherwise.

import type { ComponentChildren } from "preact";
import { addressOf, type State } from "./state";

/** Opens a run; with the keys for it, in a tab or window of its own. */
export function RunLink({ run, state, change, children }: {
  run: string;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  children: ComponentChildren;
}) {
  return (
    <a href={addressOf({ ...state, open: run })} onClick={(event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      change({ open: run }, true);
    }}>{children}</a>
  );
}
