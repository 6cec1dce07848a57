// One run in time: a slider over all of it, and what everything was like at the moment.

import { useMemo } from "preact/hooks";
import { useAsked } from "./asked";
import { inks, line } from "./colours";
import { cell, duration, moment, number, size } from "./format";
import { useMedia } from "./media";
import { MediumCard } from "./medium";
import { largest, smallest } from "./numbers";
import type { Cell, Happened, History, Moment, Ran, Source } from "./source";
import type { HistogramView } from "./state";

const REFRESH_MS = 1000;
const PAUSE_MS = 60;
const TICKS = 2000;
const MOST_NAMES = 30; // of media
const MARKED: Record<string, string> = { fault: "✕", checkpoint: "◆", attempt: "┆", command: "▸", "dead letter": "!", end: "■" };

/** What happened in a run, asked for again while it goes on. */
function useHistory(source: Source, open: string, version: string): [History | null, string] {
  const { answer, problem } = useAsked(open, version, () => source.history(open), {
    everyMs: REFRESH_MS, againMs: REFRESH_MS / 4, isWhole: (found) => found.is_read,
  });
  return [answer, problem];
}

/** The run at a time: while the slider moves, it is shown at the places on the way. */
function useMoment(source: Source, open: string, time: number | null): [Moment | null, string] {
  const at = time ?? 0;
  const { answer, problem } = useAsked(time === null ? null : open, at, () => source.moment(open, at), { everyMs: PAUSE_MS });
  return [answer, problem];
}

export function Moments({ source, open, version, time, move, histograms }: {
  source: Source;
  open: string;
  version: string;
  /** Seconds since the run began; null for the end, also while that moves. */
  time: number | null;
  move: (time: number | null) => void;
  histograms: HistogramView;
}) {
  const [history, problem] = useHistory(source, open, version);
  const last = history?.last_s ?? 0;
  const at = time === null ? last : Math.min(time, last);
  const [now, wrong] = useMoment(source, open, history ? at : null);
  if (!history) return problem ? <p class="wrong">{problem}</p> : <p class="empty">…</p>;
  const cannot = problem || history.problem;
  if (history.is_read && !history.began_s) {
    return cannot ? <p class="wrong" role="alert">{cannot}</p> : <p class="empty">No moments of it can be read: nothing was recorded, or its log is damaged.</p>;
  }
  const places = history.happened.filter((each) => each.time_s <= last);
  const before = places.filter((each) => each.time_s < at - 1e-6).at(-1);
  const after = places.find((each) => each.time_s > at + 1e-6);
  return (
    <div class="moments">
      <div class="time">
        <button disabled={!before} onClick={() => before && move(before.time_s)} aria-label="to what happened before">◀</button>
        <div class="track">
          <input type="range" min="0" max={TICKS} value={last ? Math.round((at / last) * TICKS) : TICKS} aria-label="time of the run"
            aria-valuetext={`${duration(at)} after it began${now ? `, step ${now.step}` : ""}`}
            onInput={(event) => {
              const share = Number(event.currentTarget.value) / TICKS;
              move(share >= 1 ? null : share * last);
            }} />
          <div class="happened" aria-hidden="true">
            {places.slice(-300).map((each, place) => (
              <span key={place} class={each.kind.replace(" ", "-")} title={`${each.kind}: ${each.words}`}
                style={{ left: `${last ? (100 * each.time_s) / last : 0}%` }}>{MARKED[each.kind]}</span>
            ))}
          </div>
        </div>
        <button disabled={!after} onClick={() => move(after ? after.time_s : null)} aria-label="to what happened next">▶</button>
        <button aria-pressed={time === null} onClick={() => move(null)}>end</button>
      </div>
      <p class="quiet">
        {duration(at)} after it began, {moment(history.began_s + at)}; {Object.entries(MARKED)
          .filter(([kind]) => places.some((each) => each.kind === kind)).map(([kind, mark]) => `${mark} ${kind}`).join(", ")}.
        {!history.is_read && " The log is still being read …"}
        {history.note && ` ${history.note}`}
      </p>
      {(cannot || wrong) && <p class="wrong" role="alert">{cannot || wrong}</p>}
      {now && <Then source={source} open={open} version={version} now={now} history={history} histograms={histograms} at={at} />}
    </div>
  );
}

function Then({ source, open, version, now, history, histograms, at }: {
  source: Source; open: string; version: string; now: Moment; history: History; histograms: HistogramView; at: number;
}) {
  return (
    <>
      <Progress now={now} />
      <div class="panels">
        <Panel name="metrics" count={now.metrics.length} otherwise="None was put by then.">
          {now.metrics.length > 0 && (
            <table>
              <thead><tr><th scope="col">metric</th><th scope="col">value</th><th scope="col">of step</th></tr></thead>
              <tbody>{now.metrics.map((each) => (
                <tr key={each.name}><th scope="row">{each.name}</th><td class="number">{cell(each.value)}</td><td class="number">{cell(each.step)}</td></tr>
              ))}</tbody>
            </table>
          )}
          {now.more_metrics > 0 && <p class="note">{number(now.more_metrics)} more metrics are not listed.</p>}
        </Panel>
        <Panel name="hooks that run" count={now.running.length} otherwise="None ran at this moment: training was between hooks.">
          {now.running.length > 0 && (
            <ul>{now.running.map((each, place) => (
              <li key={place}>{each.name} <span class="quiet">for {duration(-each.begin_s)}, of {duration(each.end_s - each.begin_s)}</span></li>
            ))}</ul>
          )}
        </Panel>
      </div>
      <Panel name={`step ${cell(now.hooks_step ?? now.step)} by hook`} count={now.hooks.length} otherwise="It has recorded no hooks around this moment.">
        {now.hooks.length > 0 && <Timeline hooks={now.hooks} />}
      </Panel>
      <MediaThen source={source} open={open} version={version} at={at} histograms={histograms} />
      <div class="panels">
        <Panel name="process and machine" count={Object.keys(now.system).length} otherwise="Nothing was recorded by then; Trainer(record_system=True) does, every few seconds.">
          <System now={now} history={history} at={at} />
        </Panel>
        <Panel name="actors" count={now.actors.length} otherwise="None worked on the bus by then.">
          {now.actors.length > 0 && <Actors actors={now.actors} />}
        </Panel>
      </div>
      <Panel name="console" count={now.console.length} otherwise="It printed nothing by then, or did not record it: Trainer(record_console=True).">
        {now.console.length > 0 && (
          <>
            {now.has_more_lines && <p class="note">Of its lines, the last 2,000 are kept here; nightbus tail --console has all.</p>}
            <pre class="said" tabIndex={0}>{now.console.map((each, place) => (
              <span key={place} class={each.stream}>{each.text}{"\n"}</span>
            ))}</pre>
          </>
        )}
      </Panel>
      {Object.entries(now.happened).filter(([kind]) => kind !== "attempt" || (now.happened["attempt"]?.length ?? 0) > 1).map(([kind, its]) => (
        <Panel key={kind} name={`${kind}s by then`.replace("ends", "end")} count={its.length} otherwise="">
          <ul>{[...its].reverse().map((each, place) => <li key={place}><Words said={each} /></li>)}</ul>
        </Panel>
      ))}
    </>
  );
}

function Words({ said }: { said: Happened }) {
  return <>{said.words} <span class="quiet">{said.size_bytes !== undefined && `${size(Number(said.size_bytes))}, `}
    epoch {cell(said.epoch)}, step {cell(said.step)}, after {duration(said.time_s)}</span></>;
}

function Panel({ name, count, otherwise, children }: { name: string; count: number; otherwise: string; children?: preact.ComponentChildren }) {
  return (
    <section class="panel" aria-label={name}>
      <h3>{name}</h3>
      {count ? <div class="wide" tabIndex={0} role="region" aria-label={name}>{children}</div> : <p class="quiet">{otherwise}</p>}
    </section>
  );
}

function Progress({ now }: { now: Moment }) {
  return (
    <section class="panel" aria-label="progress">
      <p class="place"><b>{now.stage || "between stages"}</b>, epoch {cell(now.epoch)}, step {cell(now.step)}
        {Number(now.batch) >= 0 && <>, batch {cell(now.batch)}</>}{now.attempt > 0 && <>, attempt {now.attempt}</>}</p>
      {now.loops.map((loop) => (
        <p key={loop.name} class="loop">
          <span>{loop.name}</span>
          {loop.total && loop.completed !== null ? (
            <><progress max={loop.total} value={loop.completed} aria-label={loop.name} /> {number(loop.completed)} of {number(loop.total)} {plural(loop.unit)}</>
          ) : loop.total ? `${number(loop.total)} ${plural(loop.unit)}` : loop.completed !== null ? `${number(loop.completed)} ${plural(loop.unit)}` : "runs"}
        </p>
      ))}
    </section>
  );
}

function plural(unit: string): string {
  return unit.endsWith("ch") ? `${unit}es`.replace("epoches", "epochs") : `${unit}s`;
}

/** The hooks of a step one under the other where they lie in one another, along time. */
function Timeline({ hooks }: { hooks: Ran[] }) {
  const first = smallest(hooks.map((each) => each.begin_s));
  const last = largest(hooks.map((each) => each.end_s));
  const whole = last - first || 1e-9;
  const depths = useMemo(() => {
    const open: number[] = [];
    return hooks.map((each) => {
      while (open.length && (open.at(-1) as number) <= each.begin_s + 1e-9) open.pop();
      open.push(each.end_s);
      return open.length - 1;
    });
  }, [hooks]);
  const deep = largest(depths) + 1;
  const total = new Map<string, number>();
  for (const each of hooks) total.set(each.name, (total.get(each.name) ?? 0) + each.end_s - each.begin_s);
  const all = [...total].sort(([, one], [, other]) => other - one);
  const names = all.map(([name]) => name);
  const longest = all.slice(0, 8).filter(([, took], place) => took > 0 || place === 0);
  return (
    <>
      <svg class="timeline" viewBox={`0 0 1000 ${deep * 22 + 16}`} preserveAspectRatio="none" role="img"
        aria-label={`${hooks.length} hooks in ${duration(whole)}; the longest: ${longest.map(([name, took]) => `${name} ${duration(took)}`).join(", ")}`}
        style={{ height: `${deep * 22 + 16}px` }}>
        {hooks.map((each, place) => (
          <rect key={place} x={((each.begin_s - first) / whole) * 1000} width={Math.max(((each.end_s - each.begin_s) / whole) * 1000, 1)}
            y={(depths[place] as number) * 22} height="20" fill={line(names.indexOf(each.name)).colour}>
            <title>{`${each.name}: ${duration(each.end_s - each.begin_s)}`}</title>
          </rect>
        ))}
        {first < 0 && last > 0 && <line x1={(-first / whole) * 1000} x2={(-first / whole) * 1000} y1="0" y2={deep * 22 + 16}
          stroke={inks().text} stroke-width="2" vector-effect="non-scaling-stroke" />}
      </svg>
      <p class="entries">{longest.map(([name, took]) => (
        <span key={name} class="value"><i style={{ background: line(names.indexOf(name)).colour }} />{name} <b>{duration(took)}</b></span>
      ))}<span class="quiet">of {duration(whole)} from the first to the last</span></p>
    </>
  );
}

function System({ now, history, at }: { now: Moment; history: History; at: number }) {
  return (
    <table>
      <tbody>
        {Object.entries(now.system).map(([name, value]) => {
          const curve = history.system[name];
          return (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="number">{used(name, value)}</td>
              <td class="curve">{curve && <Over x={curve.x} y={curve.y} at={at} last={history.last_s} />}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function Over({ x, y, at, last }: { x: number[]; y: Cell[]; at: number; last: number }) {
  const values = y.filter((value): value is number => typeof value === "number");
  const [low, high] = [smallest(values), largest(values)];
  const path = x.map((time, place) => {
    const value = y[place];
    return typeof value === "number"
      ? `${place ? "L" : "M"}${(98 * time) / (last || 1) + 1} ${20 - (high > low ? ((value - low) / (high - low)) * 18 : 9)}` : "";
  }).join("");
  return (
    <svg class="spark" viewBox="0 0 100 22" preserveAspectRatio="none" aria-hidden="true">
      <path d={path.replace(/^L/, "M")} fill="none" stroke="currentColor" vector-effect="non-scaling-stroke" />
      <line x1={(98 * at) / (last || 1) + 1} x2={(98 * at) / (last || 1) + 1} y1="0" y2="22" class="here" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

/** The unit is at the end of a name. */
function used(name: string, value: Cell): string {
  if (typeof value !== "number") return cell(value);
  if (name.endsWith("_bytes")) return size(Math.round(value));
  if (name.endsWith("_bytes_per_s")) return `${size(Math.round(value))}/s`;
  const unit = name.endsWith("_percent") ? " %" : name.endsWith("_w") ? " W" : name.endsWith("_c") ? " °C" : "";
  return `${Number(value.toPrecision(3))}${unit}`;
}

function Actors({ actors }: { actors: Record<string, Cell>[] }) {
  const columns = [["state", "state"], ["events", "events"], ["behind by", "lag"], ["restarts", "restarts"], ["failures", "faults"],
    ["commands", "sent"], ["waiting", "waiting"], ["most waiting", "most_waiting"], ["dropped", "dropped"], ["not delivered", "dead"]] as const;
  return (
    <>
      <table>
        <thead><tr><th scope="col">actor</th>{columns.map(([title]) => <th scope="col" key={title}>{title}</th>)}</tr></thead>
        <tbody>{actors.map((each) => (
          <tr key={String(each["name"])}>
            <th scope="row">{cell(each["name"])} <span class="quiet">{cell(each["kind"])}</span></th>
            {columns.map(([title, name]) => <td key={title} class={name === "state" ? "" : "number"}>{cell(each[name])}</td>)}
          </tr>
        ))}</tbody>
      </table>
      <p class="note">How far actors are behind, and what waits for them, is recorded every few seconds; the other counts when the run ends.</p>
    </>
  );
}

function MediaThen({ source, open, version, at, histograms }: {
  source: Source; open: string; version: string; at: number; histograms: HistogramView;
}) {
  const [media, problem] = useMedia(source, [open], version);
  // What is shown is of the last at or before this time, which the card knows by its step.
  const its = (media?.[open]?.names ?? []).flatMap((each) => {
    const count = each.times.filter((time) => time <= at + 1e-6).length;
    return count ? [{ ...each, steps: each.steps.slice(0, count), times: each.times.slice(0, count),
      epochs: each.epochs.slice(0, count), places: each.places.slice(0, count) }] : [];
  });
  if (problem) return <p class="wrong">{problem}</p>;
  if (!its.length) return null;
  return (
    <Panel name="media" count={its.length} otherwise="">
      <div class="cards">
        {its.slice(0, MOST_NAMES).map((each) => (
          <article key={each.name} aria-label={each.name}>
            <p class="of-run">{each.name} <span class="quiet">{each.kind}</span></p>
            <MediumCard source={source} run={open} its={each} at={Infinity} view={each.kind === "histogram" ? "bars" : histograms} colour={line(0).colour} />
          </article>
        ))}
      </div>
      {its.length > MOST_NAMES && <p class="note">the first {MOST_NAMES} of {its.length} names; “media” has all.</p>}
    </Panel>
  );
}
