// Runs compared: what was set against what came out, and two of them in what they were and did.

import { useMemo, useState } from "preact/hooks";
import { useAsked } from "./asked";
import { isDark } from "./colours";
import { cell, number } from "./format";
import { ChoiceOfName, ColourLegend, useNames } from "./legend";
import { MOST_DRAWN, type Painting, useColumns } from "./painting";
import { palette } from "./palette";
import { ParallelCoordinates, Scatter } from "./plots";
import type { Columns, FirstDifference, Names, Source } from "./source";
import type { State } from "./state";

const MOST_AXES = 12;
const KINDS = ["hparams", "metrics", "fields", "config", "environment"];
const TITLES: Record<string, string> = {
  hparams: "hyperparameters", config: "arguments of the Trainer", code: "code", environment: "environment", versions: "versions",
};

interface CompareProps {
  source: Source;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  keys: string[];
  names: Record<string, string>;
  painting: Painting;
  told: number;
}

export function Compare(props: CompareProps) {
  const { source, state, change, told } = props;
  const [names, askNames, namesWrong] = useNames(source, true);
  const usual = useAsked(state.where, told, () =>
    source.table({ where: state.where, sort: "", isReversed: false, columns: [], group: "", first: 0, number: 1 }));
  const axes = state.axes.length ? state.axes : usualAxes(usual.latest?.columns ?? [], names);
  const across = state.across || axes[0] || "";
  const up = state.up || axes.at(-1) || "";
  return (
    <section class="compare" aria-label="compare">
      {(namesWrong || usual.problem) && <p class="wrong" role="alert">{namesWrong || usual.problem}</p>}
      <Many {...props} axes={axes} axisNames={names} askNames={askNames} />
      <section class="of-name" aria-label="one against another">
        <div class="tools">
          <h3>one against another</h3>
          <ChoiceOfName label="across" none="first axis" value={state.across} kinds={KINDS} names={names} refresh={askNames}
            choose={(name) => change({ across: name })} />
          <ChoiceOfName label="up" none="last axis" value={state.up} kinds={KINDS} names={names} refresh={askNames}
            choose={(name) => change({ up: name })} />
        </div>
        {across && up && across !== up ? <Points {...props} pair={[across, up]} />
          : <p class="empty">Choose two different names.</p>}
      </section>
      <Two {...props} />
    </section>
  );
}

/** What the table shows by itself: hyperparameters that differ, and the first metrics. */
function usualAxes(columns: string[], names: Names): string[] {
  const of = (kind: string): string[] => columns.filter((name) => names[kind]?.includes(name));
  return [...of("hparams").slice(0, 6), ...of("metrics").slice(-2)];
}

function Many({ source, state, change, keys, painting, told, axes, axisNames, askNames }: CompareProps & {
  axes: string[];
  axisNames: Names;
  askNames: () => void;
}) {
  const [columns, problem] = useColumns(source, axes, state.where, [], told);
  const last = axes.at(-1) ?? "";
  const paint = usePaint(painting, columns, last);
  return (
    <section class="of-name first" aria-label="parallel coordinates">
      <div class="tools">
        <h3>parallel coordinates</h3>
        {axes.length < MOST_AXES && (
          <ChoiceOfName label="axes" none="add …" value="" kinds={KINDS} names={without(axisNames, axes)} refresh={askNames}
            choose={(name) => name && change({ axes: [...axes, name] })} />
        )}
        {axes.map((name, at) => (
          <span key={name} class="axis">
            {name}
            {at > 0 && <button aria-label={`move ${name} to the left`} onClick={() => {
              const moved = [...axes];
              [moved[at - 1], moved[at]] = [name, axes[at - 1] as string];
              change({ axes: moved });
            }}>←</button>}
            <button aria-label={`remove ${name}`} onClick={() => change({ axes: axes.filter((each) => each !== name) })}>×</button>
          </span>
        ))}
        {state.axes.length > 0 && <button onClick={() => change({ axes: [] })}>as before</button>}
      </div>
      {axes.length < 2 ? (
        <p class="empty">Two names or more make parallel coordinates: add hyperparameters and metrics as axes.</p>
      ) : columns && columns.keys.length > 0 ? (
        <>
          {paint.palette && <ColourLegend palette={paint.palette} />}
          <ParallelCoordinates columns={columns} names={axes} colour={paint.colour} chosen={keys}
            open={(key) => change({ open: key }, true)} draw={(those) => change({ chosen: those.slice(0, MOST_DRAWN) }, true)}
            filter={!source.isLive ? null : (condition) =>
              change({ where: state.where ? `(${state.where}) and ${condition}` : condition }, true)} />
          {columns.found > columns.keys.length && <p class="note">the newest {number(columns.keys.length)} of {number(columns.found)} runs</p>}
        </>
      ) : columns ? <p class="empty">There are no such runs.</p>
        : problem ? <p class="wrong">{problem}</p> : <p class="empty">…</p>}
    </section>
  );
}

function Points({ source, state, change, keys, painting, told, pair }: CompareProps & { pair: [string, string] }) {
  const [columns, problem] = useColumns(source, pair, state.where, [], told);
  const paint = usePaint(painting, columns, "");
  if (!columns) return problem ? <p class="wrong">{problem}</p> : <p class="empty">…</p>;
  return <Scatter columns={columns} names={pair} colour={paint.colour} chosen={keys} open={(key) => change({ open: key }, true)} />;
}

/** The colours of the page if one was chosen for it; else by the last axis. */
function usePaint(painting: Painting, columns: Columns | null, last: string) {
  return useMemo(() => {
    const values = columns?.columns.at(-1);
    if (painting.palette || !last || !values || !columns) {
      return { palette: painting.palette, colour: (key: string) => (painting.palette ? painting.line(key).colour : isDark.matches ? "#56b4e9" : "#0072b2") };
    }
    const colours = palette(last, values);
    const at = new Map(columns.keys.map((key, place) => [key, place]));
    return { palette: colours, colour: (key: string) => colours.of(values[at.get(key) ?? -1]).colour };
  }, [painting, columns, last]);
}

function without(names: Names, axes: string[]): Names {
  return Object.fromEntries(Object.entries(names).map(([kind, its]) => [kind, its.filter((name) => !axes.includes(name))]));
}

function Two({ source, state, change, keys, names, told }: CompareProps) {
  const pair = [state.pair[0] ?? keys[0] ?? "", state.pair[1] ?? keys.find((key) => key !== (state.pair[0] ?? keys[0])) ?? ""];
  const [left, right] = pair as [string, string];
  const question = `${left} ${right}`;
  const { answer: found, problem } = useAsked(left && right && left !== right ? question : null, told,
    () => source.compare([left, right]));
  const choose = (place: 0 | 1, key: string): void => change({ pair: place === 0 ? [key, right] : [left, key] });
  const options = [...new Set([...keys, left, right])].filter(Boolean);
  const kinds = Object.keys(TITLES).filter((kind) => found?.differences.some((each) => each.kind === kind));
  return (
    <section class="of-name" aria-label="two runs">
      <div class="tools">
        <h3>two runs</h3>
        {([0, 1] as const).map((place) => (
          <label key={place}>
            {place ? "and " : "compare "}
            <select value={pair[place]} onChange={(event) => choose(place, event.currentTarget.value)}>
              {options.map((key) => <option key={key} value={key}>{names[key] ?? key}</option>)}
            </select>
          </label>
        ))}
      </div>
      {problem && <p class="wrong">{problem}</p>}
      {!left || !right || left === right ? <p class="empty">Tick two runs in the table to compare them.</p> : found && (
        <>
          {found.differences.length === 0 && <p class="note">They were set up in the same way.</p>}
          <div class="wide" tabIndex={0} role="region" aria-label="what differs">
            <table class="two">
              <thead><tr><th scope="col">what differs</th><th scope="col">{names[left] ?? left}</th><th scope="col">{names[right] ?? right}</th></tr></thead>
              <tbody>
                {kinds.flatMap((kind) => [
                  <tr key={kind} class="kind"><th scope="rowgroup" colSpan={3}>{TITLES[kind]}</th></tr>,
                  ...found.differences.filter((each) => each.kind === kind).map((each) => (
                    <tr key={`${kind} ${each.name}`}>
                      <th scope="row">{each.name}</th>
                      {each.values.map((value, at) => (
                        <td key={at} class="text">{value === null ? <span class="quiet">{kind === "config" ? "the default" : "nothing"}</span> : cell(value)}</td>
                      ))}
                    </tr>
                  )),
                ])}
                <tr class="kind"><th scope="rowgroup" colSpan={3}>metrics: last (lowest to highest)</th></tr>
                {found.metrics.map((metric) => (
                  <tr key={`metric ${metric.name}`}>
                    <th scope="row">{metric.name}</th>
                    {metric.totals.map((total, at) => (
                      <td key={at} class="number">{total ? `${cell(total[0])} (${cell(total[1])} to ${cell(total[2])})` : <span class="quiet">none</span>}</td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
            {found.more_metrics > 0 && <p class="note">{number(found.more_metrics)} more metrics are not listed.</p>}
          </div>
          <First key={question} source={source} left={left} right={right} names={names} />
        </>
      )}
    </section>
  );
}

/** The first event that differs: asked for by a button, because whole logs may have to be read. */
function First({ source, left, right, names }: { source: Source; left: string; right: string; names: Record<string, string> }) {
  const [first, setFirst] = useState<FirstDifference | null>(null);
  const [said, setSaid] = useState("");
  const ask = (): void => {
    setSaid("reading both logs …");
    source.firstDifference(left, right).then((found) => {
      setFirst(found);
      setSaid("");
    }, (error: Error) => setSaid(error.message));
  };
  if (!first) {
    return <p class="more"><button onClick={ask} disabled={said.startsWith("reading")}>find the first event that differs</button> <span role="status">{said}</span></p>;
  }
  return (
    <div class="more" role="status">
      {first.left === null && first.right === null ? (
        <p>They did the same{first.missing.length ? ", as far as both can be read" : ""}: {number(first.equal)} events were compared, times aside.</p>
      ) : (
        <>
          <p>They differ after {number(first.equal)} equal events{first.rank ? ` of rank ${first.rank}` : ""}:</p>
          <dl class="first">
            <dt>{names[left] ?? left}</dt><dd>{first.left ?? "has no more events"}</dd>
            <dt>{names[right] ?? right}</dt><dd>{first.right ?? "has no more events"}</dd>
          </dl>
        </>
      )}
      {first.missing.map((line) => <p key={line} class="wrong">{line}</p>)}
    </div>
  );
}
