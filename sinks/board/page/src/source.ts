// What the page asks for: of a server, or of the file that it lies in.

export type Cell = null | boolean | number | string | Cell[];
export type Named = Record<string, Cell>;
export type XAxis = "step" | "epoch" | "time" | "wall";

export interface Row {
  key: string;
  id: string;
  name: string;
  ending: string;
  problem: string;
  /** Why it ended. */
  reason: string;
  cells: Cell[];
}

export interface Table {
  root: string;
  /** The arguments with which nightbus board has these runs; of a server only. */
  choice?: string[];
  number: number;
  all: number;
  found: number;
  first: number;
  columns: string[];
  rows: Row[];
  groups: TableGroup[];
  /** That none of these runs has what they are sorted or grouped by; empty if some have. */
  unknown: string;
}

/** Runs with one value of what the table is grouped by, and the means of its columns. */
export interface TableGroup {
  value: Cell;
  count: number;
  means: (number | null)[];
}

/** Values of runs by name: a list a name, as long as the list of keys. */
export interface Columns {
  found: number;
  keys: string[];
  ids: string[];
  columns: Cell[][];
}

/** A curve small enough for a table; a value is null where it is not finite. */
export interface Spark {
  is_read: boolean;
  is_large?: boolean;
  x: number[];
  y: (number | null)[];
}

export type MediaKind = "image" | "figure" | "histogram" | "text" | "table";
export type MediaPlace = [attempt: number, seq: number];

/** The media of one name of a run: when each was put, and where it is recorded. */
export interface MediaOfName {
  name: string;
  kind: MediaKind;
  steps: number[];
  epochs: number[];
  times: number[];
  places: MediaPlace[];
}

export interface MediaOfRun {
  is_read: boolean;
  problem: string;
  names: MediaOfName[];
}

export interface Histogram {
  step: number;
  epoch: number;
  edges: number[];
  counts: number[];
  problem: string;
}

export interface Histograms {
  all: number;
  is_read: boolean;
  histograms: Histogram[];
}

/** One medium: the address of a picture, which is all in itself, or plain data. */
export type Medium =
  | { picture: string }
  | { text: string; length: number }
  | { columns: string[]; rows: Cell[][]; length: number; width: number }
  | Histogram;

/** In what the set-ups of runs differ, and their metrics: last, lowest, highest of each run. */
export interface Comparison {
  differences: { kind: string; name: string; values: Cell[] }[];
  metrics: { name: string; totals: (Cell[] | null)[] }[];
  /** How many more there are than are answered. */
  more_metrics: number;
}

/** The first events of two runs that differ, in words; null where there is none. */
export interface FirstDifference {
  equal: number;
  rank: number;
  left: string | null;
  right: string | null;
  missing: string[];
}

/** Something that happened in a run, seconds after it began. */
export interface Happened {
  time_s: number;
  words: string;
  epoch: Cell;
  step: Cell;
  size_bytes?: Cell;
}

/** All of a run's time: how long it is, what happened when, and how its system did. */
export interface History {
  is_read: boolean;
  /** Why its log could not be read to the end; empty if it could. */
  problem: string;
  began_s: number;
  last_s: number;
  happened: (Happened & { kind: string })[];
  system: Record<string, { x: number[]; y: Cell[] }>;
  /** What readers of a file have to know; a server has all moments. */
  note?: string;
}

/** A hook that ran, from when to when, in seconds around a moment. */
export interface Ran {
  name: string;
  stage: string;
  begin_s: number;
  end_s: number;
}

/** What a run looked like at a moment. */
export interface Moment {
  time_s: number;
  stage: string;
  epoch: Cell;
  step: Cell;
  batch: Cell;
  attempt: number;
  loops: { name: string; total: number | null; unit: string; completed: number | null }[];
  metrics: { name: string; value: Cell; step: Cell }[];
  /** How many more there are than are answered. */
  more_metrics: number;
  running: Ran[];
  hooks: Ran[];
  hooks_step: Cell;
  actors: Record<string, Cell>[];
  console: { time_s: number; stream: string; text: string }[];
  has_more_lines: boolean;
  system: Record<string, Cell>;
  happened: Record<string, Happened[]>;
}

export interface TableQuestion {
  group: string;
  where: string;
  sort: string;
  isReversed: boolean;
  columns: string[];
  first: number;
  number: number;
}

export interface Curve {
  key: string;
  x: Float64Array;
  y: Float64Array;
  values: number;
  isSmooth: boolean;
  isExact: boolean;
  isRead: boolean;
  problem: string;
  /** What happened in the run, and where on the axis. */
  marks: [kind: string, at: number][];
  /** Of a group: the lowest and the highest of its runs; y has their mean. */
  range?: { low: Float64Array; high: Float64Array; runs: number };
}

export interface CurvesQuestion {
  metric: string;
  keys: string[];
  x: XAxis;
  from: number;
  to: number;
  stretches: number;
  smoothing: number;
}

export interface BandsQuestion extends Omit<CurvesQuestion, "keys"> {
  /** Of each group, the keys of its runs. */
  groups: Record<string, string[]>;
}

export interface Attempt {
  attempt: number;
  fn: string;
  started_s: number | null;
  duration_s: number;
  how: string;
  reason: string;
  epochs: number;
  steps: number;
  events: number;
  ranks: number;
  resumed_from: string;
  damage: string[];
}

export interface RunAbout {
  key: string;
  id: string;
  name: string;
  path: string;
  argv: string[];
  tags: string[];
  notes: string;
  group: string;
  /** The run whose checkpoint it began from. */
  parent: string;
  created_s: number;
  ending: string;
  reason: string;
  duration_s: number;
  epochs: number;
  steps: number;
  size_bytes: number;
  hparams: Named;
  config: Named;
  environment: Named;
  versions: Named;
  attempts: Attempt[];
  hooks: { name: string; count: number; total_s: number; mean_s: number }[];
  metrics: ({ name: string } & Named)[];
  faults: ({ error: string; message: string; traceback: string } & Named)[];
  checkpoints: { path: string; epoch: number; step: number; size_bytes: number; is_there: boolean }[];
  are_all_checkpoints: boolean;
}

export type Names = Record<string, string[]>;

/** What a server tells: which state the table has, and of each run its values and ending. */
export interface Told {
  table: number;
  runs: Record<string, [number, string]>;
  /** How many runs of the table go on, those that are not looked at too. */
  going_on: number;
  /** Of the runs that were asked about, those that are not there any more. */
  missing: string[];
  /** Of runs that go on, what has changed: step, epoch, and the last values by metric. */
  latest: Record<string, Latest>;
}

export type Latest = [step: number, epoch: number, values: Record<string, Cell>];

/** What a page may ask of runs that go on, and what it has to send with each wish. */
export interface Offer {
  token: string;
  verbs: string[];
}

export interface Wish {
  verb?: string;
  reason?: string;
  command?: string;
  to?: string;
  fields?: Record<string, unknown>;
}

export interface SteerAnswer {
  kind: string;
  said: string;
  status: { epoch: number; step: number; paused: boolean; stopping: boolean } | null;
}

export interface Source {
  readonly isLive: boolean;
  /** What readers have to know of where it comes from; empty if nothing. */
  readonly note: string;
  table(question: TableQuestion): Promise<Table>;
  names(): Promise<Names>;
  run(key: string): Promise<RunAbout>;
  metrics(keys: string[]): Promise<Record<string, number>>;
  curves(question: CurvesQuestion): Promise<Curve[]>;
  bands(question: BandsQuestion): Promise<Curve[]>;
  columns(names: string[], where: string, keys: string[]): Promise<Columns>;
  compare(keys: string[]): Promise<Comparison>;
  firstDifference(left: string, right: string): Promise<FirstDifference>;
  history(key: string): Promise<History>;
  moment(key: string, time: number): Promise<Moment>;
  media(keys: string[]): Promise<Record<string, MediaOfRun>>;
  medium(key: string, place: MediaPlace): Promise<Medium>;
  histograms(key: string, name: string): Promise<Histograms>;
  sparklines(metric: string, keys: string[]): Promise<Record<string, Spark>>;
  /** What may be asked of runs; null where pages only read. */
  offer(): Promise<Offer | null>;
  steer(key: string, wish: Wish, token: string): Promise<SteerAnswer>;
  /** Listen until the returned function is called; told(null) when the connection is lost. */
  listen(keys: string[], told: (what: Told | null) => void): () => void;
}

export class Problem extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}
