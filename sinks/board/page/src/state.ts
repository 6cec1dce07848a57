// What the page shows, kept in the address, so that it can be opened again and passed on.

import { useEffect, useRef, useState } from "preact/hooks";
import type { XAxis } from "./source";

export interface State {
  where: string;
  sort: string;
  isReversed: boolean;
  columns: string[];
  /** Keys of the runs whose curves are drawn; null for the newest. */
  chosen: string[] | null;
  open: string;
  x: XAxis;
  isLog: boolean;
  isTrimmed: boolean;
  smoothing: number;
  find: string;
  view: View;
  /** Of the width, what the table has in percent; null as usual. */
  split: number | null;
  /** The metric of the small curves; null for the first there is. */
  spark: string | null;
  colour: string;
  group: string;
  /** The runs of a group are drawn each by itself. */
  isEach: boolean;
  /** The step whose media are shown; null for the last. */
  at: number | null;
  histograms: HistogramView;
  /** Of the parallel coordinates; a choice if empty. */
  axes: string[];
  across: string;
  up: string;
  /** The two runs that are compared; the first that are drawn if fewer. */
  pair: string[];
  /** What is shown of an open run. */
  part: RunPart;
  /** The moment that is shown of it, seconds after it began; null for its end. */
  time: number | null;
}

export type HistogramView = (typeof HISTOGRAM_VIEWS)[number];

export const HISTOGRAM_VIEWS = ["ridge", "heat map", "bars"] as const;

export type RunPart = (typeof RUN_PARTS)[number];

export const RUN_PARTS = ["as a whole", "curves", "media", "at a moment"] as const;

export type View = (typeof VIEWS)[number];

export const VIEWS = ["runs", "curves", "media", "compare"] as const;

const AXES: XAxis[] = ["step", "epoch", "time", "wall"];
const TOKEN = "nightbus-board-token";
const REST_MS = 500; // browsers take few changes of the address: it is written again when they rest

function read(): State {
  const said = new URLSearchParams(location.hash.slice(1));
  const smoothing = Number(said.get("smooth"));
  return {
    where: said.get("where") ?? "",
    sort: said.get("sort") ?? "",
    isReversed: said.get("reverse") === "1",
    columns: said.getAll("column"),
    chosen: said.has("run") ? said.getAll("run").filter(Boolean) : null,
    open: said.get("open") ?? "",
    x: AXES.find((axis) => axis === said.get("x")) ?? "step",
    isLog: said.get("log") === "1",
    isTrimmed: said.get("trim") === "1",
    smoothing: smoothing > 0 && smoothing < 1 ? smoothing : 0,
    find: said.get("find") ?? "",
    view: VIEWS.find((view) => view === said.get("view")) ?? "runs",
    split: Number(said.get("split") ?? NaN) > 0 ? Number(said.get("split")) : null,
    spark: said.get("small"),
    colour: said.get("colour") ?? "",
    group: said.get("group") ?? "",
    isEach: said.get("each") === "1",
    at: Number(said.get("at") ?? NaN) >= 0 ? Number(said.get("at")) : null,
    part: RUN_PARTS.find((part) => part === said.get("part")) ?? "as a whole",
    time: Number(said.get("time") ?? NaN) >= 0 ? Number(said.get("time")) : null,
    axes: said.getAll("axis"),
    across: said.get("across") ?? "",
    up: said.get("up") ?? "",
    pair: said.getAll("pair").slice(0, 2),
    histograms: HISTOGRAM_VIEWS.find((view) => view === said.get("histograms")) ?? "ridge",
  };
}

/** The address of what the page shows, from the ``#``. */
export function addressOf(state: State): string {
  const said = new URLSearchParams();
  const put = (name: string, value: string): void => {
    if (value) said.set(name, value);
  };
  put("where", state.where);
  put("sort", state.sort);
  put("reverse", state.isReversed ? "1" : "");
  for (const name of state.columns) said.append("column", name);
  for (const key of state.chosen ?? []) said.append("run", key);
  if (state.chosen?.length === 0) said.set("run", "");
  put("open", state.open);
  put("x", state.x === "step" ? "" : state.x);
  put("log", state.isLog ? "1" : "");
  put("trim", state.isTrimmed ? "1" : "");
  put("smooth", state.smoothing ? String(state.smoothing) : "");
  put("find", state.find);
  put("view", state.view === "runs" ? "" : state.view);
  if (state.split !== null) put("split", String(state.split));
  if (state.spark !== null) said.set("small", state.spark);
  put("colour", state.colour);
  put("group", state.group);
  if (state.at !== null) put("at", String(state.at));
  put("part", state.part === "as a whole" ? "" : state.part);
  if (state.time !== null) put("time", String(Number(state.time.toPrecision(8))));
  for (const name of state.axes) said.append("axis", name);
  put("across", state.across);
  put("up", state.up);
  for (const key of state.pair) said.append("pair", key);
  put("histograms", state.histograms === "ridge" ? "" : state.histograms);
  put("each", state.isEach ? "1" : "");
  return `#${said}`;
}

/** Take the token out of the address, and keep it for as long as the browser does. */
export function takeToken(): string {
  const said = new URLSearchParams(location.hash.slice(1));
  const given = said.get("token");
  if (given !== null) {
    said.delete("token");
    history.replaceState(null, "", `#${said}`);
  }
  // An address that is pasted over one of this page changes no more than what is behind the #.
  addEventListener("hashchange", () => {
    if (new URLSearchParams(location.hash.slice(1)).has("token")) location.reload();
  });
  try {
    if (given) localStorage.setItem(TOKEN, given);
    return given ?? localStorage.getItem(TOKEN) ?? "";
  } catch {
    return given ?? ""; // the browser keeps nothing
  }
}

/** The state, and a function that changes a part of it; ``isStep`` for the button "back". */
export function useAddress(): [State, (part: Partial<State>, isStep?: boolean) => void] {
  const [state, setState] = useState(read);
  const resting = useRef(0);
  useEffect(() => {
    const moved = (): void => {
      clearTimeout(resting.current);
      setState(read());
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const change = (part: Partial<State>, isStep = false): void => {
    setState((before) => {
      const after = { ...before, ...part };
      const address = addressOf(after);
      if (isStep) history.pushState(null, "", address);
      else replace(address);
      clearTimeout(resting.current);
      resting.current = window.setTimeout(() => replace(address), REST_MS);
      return after;
    });
  };
  return [state, change];
}

function replace(address: string): void {
  try {
    history.replaceState(null, "", address);
  } catch {
    // Too often for this browser, as a slider moves.
  }
}
