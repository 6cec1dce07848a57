// The page: runs on the left, curves or one run on the right; on narrow screens one after the other.

import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import { Boundary } from "./boundary";
import { isDark } from "./colours";
import { Compare } from "./compare";
import { Curves } from "./curves";
import { type FileData, InFile } from "./file";
import { InFolder } from "./folder";
import { Media } from "./media";
import { MOST_DRAWN, namesOf, useColumns, usePainting } from "./painting";
import { Popover } from "./popover";
import { Run } from "./run";
import { Runs } from "./runs";
import { Server } from "./server";
import { Share } from "./share";
import { Split } from "./split";
import { type Latest, Problem, type Source, type Table, type Told } from "./source";
import { takeToken, useAddress, type View, VIEWS } from "./state";
import "./style.css";

const NEWEST = 5; // runs that are drawn if none are chosen

function Board({ source }: { source: Source }) {
  const [state, change] = useAddress();
  const [told, setTold] = useState<Told | null>(null);
  const [hasRows, setHasRows] = useState(false);
  const [isLost, setLost] = useState(false);
  const [returns, setReturns] = useState(0);
  const wasLost = useRef(false);
  const [isSeen, setSeen] = useState(!document.hidden);
  const [newest, setNewest] = useState<string[]>([]);
  const [names, setNames] = useState<Record<string, string>>({});
  const [root, setRoot] = useState("");
  const [choice, setChoice] = useState<string[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [, setDark] = useState(isDark.matches);
  const changes = useChanges(told && `${returns} ${told.table}`);
  const [columns, paintingWrong] = useColumns(source, namesOf(state), state.where, (state.chosen ?? []).slice(0, MOST_DRAWN), changes);
  const otherwise = state.group && columns ? columns.keys : newest;
  const wanted = state.chosen ?? otherwise;
  const keys = wanted.filter((key) => !told?.missing.includes(key)).slice(0, MOST_DRAWN);
  const painting = usePainting(columns, state, keys);
  const followed = [...new Set([...wanted.slice(0, MOST_DRAWN), state.open].filter(Boolean))];

  useEffect(() => {
    const seen = (): void => setSeen(!document.hidden);
    const dark = (): void => setDark(isDark.matches);
    document.addEventListener("visibilitychange", seen);
    isDark.addEventListener("change", dark);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      isDark.removeEventListener("change", dark);
    };
  }, []);
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (!document.getElementById("where")?.offsetParent) change({ view: "runs", open: "" }, true);
      requestAnimationFrame(() => document.getElementById("where")?.focus());
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  // A page that nobody sees does not listen: a browser has few connections to one server. Nor does one
  // before its first rows: they come sooner so, and say which runs are to be followed.
  useEffect(() => {
    if (!isSeen || !hasRows) return undefined;
    return source.listen(followed, (what) => {
      setLost(what === null);
      if (what) setProblem(null); // another program answered for a while
      // It may be another server now, which counts anew: everything is asked for again.
      if (what && wasLost.current) setReturns((before) => before + 1);
      wasLost.current = what === null;
      if (what) setTold((before) => ({ ...what, latest: goingOn({ ...before?.latest, ...what.latest }, what) }));
      else source.names().catch((error: Problem) => error.status === 401 && setProblem(error));
    });
  }, [isSeen, hasRows, followed.join()]);

  const title = state.open ? (names[state.open] ?? state.open) : root.split("/").filter(Boolean).at(-1);
  useEffect(() => {
    document.title = title ? `${title} · nightbus` : "nightbus";
  }, [title]);

  const called = (its: string[], ids: string[]): void =>
    setNames((before) => ({ ...before, ...Object.fromEntries(its.map((key, at) => [key, ids[at] ?? key])) }));
  useEffect(() => {
    if (columns) called(columns.keys, columns.ids);
  }, [columns]);
  const learnt = (table: Table): void => {
    setHasRows(true);
    setTold((before) => before ?? { table: table.number, runs: {}, latest: {}, going_on: 0, missing: [] });
    setRoot(table.root);
    setChoice(table.choice ?? []);
    called(table.rows.map((row) => row.key), table.rows.map((row) => row.id));
    const isNewestFirst = !state.where && !state.sort && !state.isReversed && !state.group;
    if (table.first === 0) {
      const keys = table.rows.slice(0, NEWEST).map((row) => row.key);
      setNewest((before) => (before.length && (!isNewestFirst || before.join() === keys.join()) ? before : keys));
    }
  };
  const refused = (error: Problem): void => {
    setHasRows(true);
    if (error.status === 401) setProblem(error);
  };
  const versions = Object.fromEntries(Object.entries(told?.runs ?? {}).map(([key, what]) => [key, `${returns} ${what.join()}`]));
  const show = (view: View): void => change({ view, open: "" }, true);

  if (problem) return <Stopped problem={problem} />;
  return (
    <div class={`board ${state.open ? "is-open" : state.view}`}>
      <header>
        <h1>nightbus <span class="root" title={root}>{root}</span></h1>
        <nav aria-label="views">
          {VIEWS.map((view) => (
            <button key={view} class={`to-${view}`} aria-pressed={!state.open && state.view === view} onClick={() => show(view)}>{view}</button>
          ))}
        </nav>
        {choice.length > 0 && <Share choice={choice} />}
        <span class={isLost ? "status lost" : "status"} role="status">
          {!source.isLive ? (source.note ? <Popover name="not all that was recorded"><p>{source.note}</p></Popover> : "recorded") : isLost ? "connection lost: is the board still running? This page comes back when it is."
            : told?.going_on ? `live: ${told.going_on} ${told.going_on === 1 ? "run goes" : "runs go"} on` : "live"}
        </span>
      </header>
      <main style={state.split === null ? {} : { "--split": `${state.split}%` }}>
        <Boundary>
          <Runs source={source} state={state} change={change} keys={keys} painting={painting} told={changes}
            latest={told?.latest ?? {}} learnt={learnt} refused={refused} paintingWrong={paintingWrong} />
        </Boundary>
        <Split share={state.split} move={(split) => change({ split })} />
        <Boundary key={state.open ? `run ${state.open}` : state.view === "runs" ? "curves" : state.view}>
          {state.open
            ? <Run source={source} open={state.open} version={versions[state.open] ?? `none ${changes}`} state={state} change={change}
              close={() => change({ open: "", time: null }, true)} names={names} painting={painting} table={changes} />
            : state.view === "media"
            ? <Media source={source} state={state} change={change} keys={keys} names={names} painting={painting} versions={versions} />
            : state.view === "compare"
            ? <Compare source={source} state={state} change={change} keys={keys} names={names} painting={painting} told={changes} />
            : <Curves source={source} state={state} change={change} keys={keys} names={names} painting={painting} versions={versions} table={changes} />}
        </Boundary>
      </main>
    </div>
  );
}

/** A number that grows with each change of a text, once there is one. */
function useChanges(text: string | null): number {
  const seen = useRef({ text, changes: 0 });
  const isChanged = seen.current.text !== null && seen.current.text !== text;
  seen.current = { text, changes: seen.current.changes + (isChanged ? 1 : 0) };
  return seen.current.changes;
}

/** What is known of runs that are followed and go on; of others, the table says more. */
function goingOn(latest: Record<string, Latest>, told: Told): Record<string, Latest> {
  return Object.fromEntries(Object.entries(latest).filter(([key]) => told.runs[key]?.[1] === "running"));
}

function Stopped({ problem }: { problem: Problem }) {
  return (
    <main class="stopped">
      <h1>nightbus</h1>
      <p class="wrong">{problem.message}</p>
      <p>Start it again with <code>nightbus board</code>, and open the address that it prints.</p>
    </main>
  );
}

function sourceOf(data: HTMLElement | null): Source {
  if (!data) return new Server(takeToken());
  const held = JSON.parse(data.textContent ?? "") as FileData & { folder?: string };
  return held.folder ? new InFolder({ ...held, runs: {} }, held.folder) : new InFile(held);
}

const place = document.getElementById("board");
if (place) render(<Board source={sourceOf(document.getElementById("data"))} />, place);
