// How what is shown is passed on: as a file, by a command.

import { useState } from "preact/hooks";
import { Popover } from "./popover";

export function Share({ choice }: { choice: string[] }) {
  const [said, setSaid] = useState("");
  const command = ["nightbus board", ...choice.map(quoted), "--export board.html"].join(" ");
  const copy = (): void => {
    navigator.clipboard.writeText(command).then(() => setSaid("copied"), () => setSaid("select and copy it by hand"));
  };
  return (
    <Popover name="share" opened={() => setSaid("")}>
      <p>This makes a file of the runs that are in the table, ticked or not, which shows them without a board:</p>
      <pre class="shell" tabIndex={0}>{command}</pre>
      <p>
        {isSecureContext && <button onClick={copy}>copy</button>} <span role="status">{said}</span>
      </p>
      <p class="quiet">What is chosen on the page is in its address, which can be kept as a bookmark.</p>
    </Popover>
  );
}

/** As a shell takes it for one word. */
function quoted(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
