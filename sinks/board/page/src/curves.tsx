// The curves of the chosen runs, a chart a metric, in sections by what stands before the slash.

import { useMemo, useState } from "preact/hooks";
import { useAsked } from "./asked";
import { Chart, type Drawn } from "./chart";
import { ColourLegend, Swatch } from "./legend";
import { RunLink } from "./links";
import type { Group, Painting } from "./painting";
import type { Source, XAxis } from "./source";
import type { State } from "./state";

const MOST_CHARTS = 60; // of a section, until more are asked for
const MOST_NAMED = 12; // runs in the legend, until more are asked for: the table has their lines, too
const MOST_OF_A_RUN = 2000; // metrics that are read of a run
const REFRESH_MS = 2000;

interface CurvesProps {
  source: Source;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  keys: string[];
  names: Record<string, string>;
  painting: Painting;
  versions: Record<string, string>;
  /** Changes when a run may have new metrics. */
  table: number;
}

export function Curves({ source, state, change, keys, names, painting, versions, table }: CurvesProps) {
  const { latest, problem } = useAsked(keys.join() || null, table, () => source.metrics(keys), { everyMs: REFRESH_MS });
  const metrics = useMemo(() => latest && Object.keys(latest), [latest]);
  const [areAllNamed, setAllNamed] = useState(false);
  const named = areAllNamed ? keys : keys.slice(0, MOST_NAMED);
  const groups = state.isEach ? null : painting.groups;
  const sections = useMemo(() => inSections(metrics ?? [], state.find), [metrics, state.find]);

  return (
    <section class="curves" aria-label="curves">
      <div class="tools">
        <label>
          along{" "}
          <select value={state.x} onChange={(event) => change({ x: event.currentTarget.value as XAxis })}>
            <option value="step">steps</option>
            <option value="epoch">epochs</option>
            <option value="time">time</option>
            <option value="wall">the clock</option>
          </select>
        </label>
        <label>
          <input type="checkbox" checked={state.isLog}
            onChange={(event) => change({ isLog: event.currentTarget.checked })} /> logarithmic
        </label>
        <label>
          <input type="checkbox" checked={state.isTrimmed}
            onChange={(event) => change({ isTrimmed: event.currentTarget.checked })} /> leave outliers out
        </label>
        <label>
          smooth{" "}
          <input type="range" min="0" max="0.99" step="0.01" value={state.smoothing}
            aria-valuetext={state.smoothing ? `weight ${state.smoothing}` : "off"}
            onChange={(event) => change({ smoothing: Number(event.currentTarget.value) })} />
          <output>{state.smoothing || "off"}</output>
        </label>
        {painting.groups && (
          <label>
            <input type="checkbox" checked={!state.isEach}
              onChange={(event) => change({ isEach: !event.currentTarget.checked })} /> mean and range of groups
          </label>
        )}
        <input type="search" placeholder="find metrics" aria-label="find metrics" value={state.find}
          onInput={(event) => change({ find: event.currentTarget.value })} />
      </div>
      {painting.palette && !groups && <ColourLegend palette={painting.palette} />}
      {groups ? (
        <ul class="legend" aria-label="groups that are drawn">
          {groups.map((group) => (
            <li key={group.id}>
              <Swatch line={group.line} /> {state.group} {group.label} <span class="quiet">
                ({group.keys.length} {group.keys.length === 1 ? "run" : "runs"})</span>
            </li>
          ))}
        </ul>
      ) : !state.open && <ul class="legend" aria-label="runs that are drawn">
        {named.map((key) => (
          <li key={key}>
            <Swatch line={painting.line(key)} /> <RunLink run={key} state={state} change={change}>{names[key] ?? key}</RunLink>
          </li>
        ))}
        {keys.length > MOST_NAMED && (
          <li>
            <button aria-expanded={areAllNamed} onClick={() => setAllNamed(!areAllNamed)}>
              {areAllNamed ? "fewer" : `${keys.length - MOST_NAMED} more`}
            </button>
          </li>
        )}
      </ul>}
      {problem && <p class="wrong" role="alert">{problem}</p>}
      {keys.length === 0 ? <p class="empty">Choose runs in the table to see their curves here.</p>
        : metrics && !metrics.length ? (
          <p class="empty">
            These runs have recorded no metrics. A module records one with <code>self.log("loss", loss)</code>.
          </p>
        ) : metrics && !sections.length ? (
          <p class="empty">No metric has “{state.find}” in its name.</p>
        ) : null}
      {metrics && metrics.length >= MOST_OF_A_RUN && (
        <p class="quiet">Of each run, at most {MOST_OF_A_RUN} metrics are here, the first; nightbus plot draws others.</p>
      )}
      {sections.map(([section, its]) => (
        <Section key={section} name={section} metrics={its} draw={(metric) => (
          <Chart key={`${state.x} ${metric}`} source={source} metric={metric} x={state.x} isLog={state.isLog} smoothing={state.smoothing} isTrimmed={state.isTrimmed}
            lines={groups ? ofGroups(groups, versions) : keys.map((key) => (
              { key, name: names[key] ?? key, line: painting.line(key), version: versions[key] ?? "", members: null }
            ))} />
        )} />
      ))}
    </section>
  );
}

function Section({ name, metrics, draw }: {
  name: string;
  metrics: string[];
  draw: (metric: string) => preact.JSX.Element;
}) {
  const [isOpen, setOpen] = useState(true);
  const [most, setMost] = useState(MOST_CHARTS);
  return (
    <details class="section" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{name || "metrics"} <span class="count">{metrics.length}</span></summary>
      {isOpen && <div class="charts">{metrics.slice(0, most).map(draw)}</div>}
      {isOpen && metrics.length > most && (
        <button onClick={() => setMost(most + MOST_CHARTS)}>{metrics.length - most} more</button>
      )}
    </details>
  );
}

function ofGroups(groups: Group[], versions: Record<string, string>): Drawn[] {
  return groups.map(({ id, label, line, keys }) => (
    { key: id, name: label, line, version: keys.map((key) => versions[key] ?? "").join(), members: keys }
  ));
}

function inSections(metrics: string[], find: string): [string, string[]][] {
  const found = new Map<string, string[]>();
  for (const metric of metrics) {
    if (!metric.toLowerCase().includes(find.toLowerCase())) continue;
    const section = metric.includes("/") ? metric.slice(0, metric.indexOf("/")) : "";
    found.set(section, [...(found.get(section) ?? []), metric]);
  }
  return [...found].sort(([one], [other]) => (one === other ? 0 : one === "" ? -1 : other === "" ? 1 : 0));
}
