// What colours mean, and the choice of what they stand for.

import { useState } from "preact/hooks";
import { useAsked } from "./asked";
import type { Line } from "./colours";
import type { Palette } from "./palette";
import type { Names, Source } from "./source";

const MOST = 200; // of a kind in a choice
const NONE: Names = {};
const CHOSEN_FIELDS = ["group", "name", "ending", "tags", "fn", "epochs", "steps", "duration", "created"];

export function Swatch({ line: { colour, dash } }: { line: Line }) {
  return (
    <svg class="swatch" viewBox="0 0 22 8" aria-hidden="true">
      <line x1="0" y1="4" x2="22" y2="4" stroke={colour} stroke-width="3" stroke-dasharray={dash.join(" ")} />
    </svg>
  );
}

/** The values of a palette with their colours. */
export function ColourLegend({ palette }: { palette: Palette }) {
  return (
    <p class="palette">
      <span class="quiet">colour by {palette.name}:</span>
      {palette.entries.map((each) => (
        <span key={each.label} class="entry"><Swatch line={each.line} /> {each.label}</span>
      ))}
      {palette.others > 0 && <span class="quiet">{palette.others} more values are grey</span>}
      {palette.scale && (
        <span class="entry">
          {palette.scale.low}
          <svg class="scale" viewBox={`0 0 ${palette.scale.colours.length} 1`} preserveAspectRatio="none" aria-hidden="true">
            {palette.scale.colours.map((colour, at) => <rect key={at} x={at} y="0" width="1.05" height="1" fill={colour} />)}
          </svg>
          {palette.scale.high}
          {palette.scale.isLog && <span class="quiet">(logarithmic)</span>}
        </span>
      )}
    </p>
  );
}

/** The names that runs have, asked for when they may be needed, and not before the page is ready for them. */
export function useNames(source: Source, isReady: boolean): [names: Names, ask: () => void, problem: string] {
  const [times, setTimes] = useState(0);
  const { answer, problem } = useAsked(isReady ? "names" : null, times, () => source.names());
  return [answer ?? NONE, () => setTimes((before) => before + 1), problem];
}

export const TITLES: Record<string, string> = {
  hparams: "hyperparameters", metrics: "metrics", fields: "the run", config: "arguments of the Trainer",
  environment: "environment", versions: "versions",
};

export function ChoiceOfName({ label, value, none, kinds, names, refresh, choose }: {
  label: string;
  value: string;
  /** What stands for no choice. */
  none: string;
  kinds: string[];
  names: Names;
  refresh: () => void;
  choose: (name: string) => void;
}) {
  const shown = kinds.map((kind): [string, string[], number] => {
    const all = names[kind] ?? [];
    const those = kind === "fields" ? all.filter((name) => CHOSEN_FIELDS.includes(name)) : all;
    return [kind, those.slice(0, MOST), those.length - MOST];
  });
  const isThere = !value || shown.some(([, its]) => its.includes(value));
  return (
    <label>
      <span>{label}</span>
      <select value={value} onFocus={refresh} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">{none}</option>
        {!isThere && <option value={value}>{value}</option>}
        {shown.map(([kind, its, more]) => its.length > 0 && (
          <optgroup key={kind} label={TITLES[kind] ?? kind}>
            {its.map((name) => <option key={name} value={name}>{name}</option>)}
            {more > 0 && <option disabled>and {more} more</option>}
          </optgroup>
        ))}
      </select>
    </label>
  );
}
