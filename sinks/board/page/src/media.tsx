// Images, figures, histograms, texts and tables of the chosen runs, side by side, at one step.

import { useMemo, useState } from "preact/hooks";
import { useAsked } from "./asked";
import { number } from "./format";
import { Swatch } from "./legend";
import { MediumCard } from "./medium";
import type { Painting } from "./painting";
import type { MediaOfName, MediaOfRun, Source } from "./source";
import { HISTOGRAM_VIEWS, type HistogramView, type State } from "./state";

const REFRESH_MS = 1000;
const AGAIN_MS = 200;
const MOST_RUNS = 8; // side by side, until more are asked for
const MOST_NAMES = 30;

/** What media runs have, asked for again as they get more. */
export function useMedia(source: Source, keys: string[], version: string): [Record<string, MediaOfRun> | null, string] {
  const { latest, problem } = useAsked(keys.join() || null, version, () => source.media(keys), {
    everyMs: REFRESH_MS, againMs: AGAIN_MS, isWhole: (found) => Object.values(found).every((run) => run.is_read),
  });
  return [latest, problem];
}

export function Media({ source, state, change, keys, names, painting, versions }: {
  source: Source;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  keys: string[];
  names: Record<string, string>;
  painting: Painting;
  versions: Record<string, string>;
}) {
  const [media, problem] = useMedia(source, keys, keys.map((key) => versions[key] ?? "").join());
  const [most, setMost] = useState(MOST_NAMES);
  const [mostRuns, setMostRuns] = useState(MOST_RUNS);
  const found = useMemo(() => byName(media ?? {}, keys, state.find), [media, keys.join(), state.find]);
  const steps = useMemo(() => allSteps(media ?? {}, keys), [media, keys.join()]);
  const last = steps.at(-1) ?? 0;
  const at = state.at ?? last;
  const isRead = media && keys.every((key) => media[key]?.is_read ?? true);
  const hasHistograms = found.some(([, runs]) => runs.some(([, its]) => its.kind === "histogram"));
  const hasAny = keys.some((key) => media?.[key]?.names.length);

  return (
    <section class="media" aria-label="media">
      <div class="tools">
        <StepSlider steps={steps} at={at} isLast={state.at === null} move={(step) => change({ at: step })} />
        {hasHistograms && (
          <label>
            histograms as{" "}
            <select value={state.histograms}
              onChange={(event) => change({ histograms: event.currentTarget.value as HistogramView })}>
              {HISTOGRAM_VIEWS.map((view) => <option key={view} value={view}>{view}</option>)}
            </select>
          </label>
        )}
        <input type="search" placeholder="find media" aria-label="find media" value={state.find}
          onInput={(event) => change({ find: event.currentTarget.value })} />
      </div>
      {problem && <p class="wrong" role="alert">{problem}</p>}
      {keys.map((key) => media?.[key]?.problem && <p class="wrong" key={key}>{names[key] ?? key}: {media[key].problem}</p>)}
      {media && !isRead && <p class="note reading">The log is still being read …</p>}
      {keys.length === 0 ? <p class="empty">Choose runs in the table to see what they recorded here.</p>
        : isRead && !hasAny ? (
          <div class="empty">
            <p>These runs have recorded no images, figures, histograms, texts or tables.</p>
            <p>A module records them in any hook: <code>self.put_image("samples", images[0])</code>,{" "}
              <code>put_figure</code>, <code>put_histogram("weights", self.net.weight)</code>, <code>put_text</code>,{" "}
              <code>put_table</code>.</p>
          </div>
        ) : hasAny && !found.length ? <p class="empty">None has “{state.find}” in its name.</p> : null}
      {found.slice(0, most).map(([name, runs]) => (
        <section key={name} class="of-name" aria-label={name}>
          <h3 title={name}>{name || "(no name)"} <span class="count">{runs[0]?.[1].kind}</span></h3>
          <div class={`cards ${runs[0]?.[1].kind ?? ""}`}>
            {runs.slice(0, mostRuns).map(([key, its]) => (
              <article key={key} aria-label={`${name} of ${names[key] ?? key}`}>
                <p class="of-run"><Swatch line={painting.line(key)} /> {names[key] ?? key}</p>
                <MediumCard source={source} run={key} its={its} at={at} view={state.histograms} colour={painting.line(key).colour} />
              </article>
            ))}
          </div>
        </section>
      ))}
      <p class="more">
        {found.length > most && <button onClick={() => setMost(most + MOST_NAMES)}>{found.length - most} more names</button>}{" "}
        {found.some(([, runs]) => runs.length > mostRuns) && (
          <button onClick={() => setMostRuns(mostRuns + MOST_RUNS)}>more runs side by side</button>
        )}
      </p>
    </section>
  );
}

/** A slider over the steps at which something is; the keys of sliders move it from one to the next. */
function StepSlider({ steps, at, isLast, move }: {
  steps: number[];
  at: number;
  /** It stays with the last as more come. */
  isLast: boolean;
  move: (step: number | null) => void;
}) {
  let place = 0;
  steps.forEach((step, number_) => {
    if (step <= at) place = number_;
  });
  if (isLast) place = Math.max(steps.length - 1, 0);
  return (
    <label class="slider">
      step{" "}
      <input type="range" min="0" max={Math.max(steps.length - 1, 0)} step="1" value={place} disabled={steps.length < 2}
        aria-valuetext={`step ${steps[place] ?? 0}`}
        onInput={(event) => {
          const wanted = Number(event.currentTarget.value);
          move(wanted >= steps.length - 1 ? null : (steps[wanted] ?? null));
        }} />
      <output>{number(steps[place] ?? 0)}{isLast ? " (last)" : ""}</output>
    </label>
  );
}

function allSteps(media: Record<string, MediaOfRun>, keys: string[]): number[] {
  const steps = new Set(keys.flatMap((key) => media[key]?.names.flatMap((its) => its.steps) ?? []));
  return [...steps].sort((one, other) => one - other);
}

function byName(media: Record<string, MediaOfRun>, keys: string[], find: string): [string, [string, MediaOfName][]][] {
  const found = new Map<string, [string, MediaOfName][]>();
  for (const key of keys) {
    for (const its of media[key]?.names ?? []) {
      if (!its.name.toLowerCase().includes(find.toLowerCase())) continue;
      found.set(its.name, [...(found.get(its.name) ?? []), [key, its]]);
    }
  }
  return [...found];
}
