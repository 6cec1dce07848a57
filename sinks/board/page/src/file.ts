// Answers from the data that lie in an exported file.

import { band } from "./bands";
import { inOrder, isMissing } from "./order";
import {
  type BandsQuestion,
  type Cell,
  type Columns,
  type Comparison,
  type Curve,
  type CurvesQuestion,
  type FirstDifference,
  type Histogram,
  type Histograms,
  type History,
  type MediaOfName,
  type MediaOfRun,
  type MediaPlace,
  type Medium,
  type Moment,
  type Names,
  Problem,
  type Row,
  type RunAbout,
  type Source,
  type Spark,
  type SteerAnswer,
  type Table,
  type TableGroup,
  type TableQuestion,
} from "./source";

type Number_ = number | string; // "NaN", "Infinity", "-Infinity"
type Values = [steps: number[], epochs: number[], times: number[], values: Number_[]];

export interface FileRun {
  problem?: string;
  about?: RunAbout;
  began_s?: number;
  curves?: Record<string, Values>;
  media?: (MediaOfName & { items: (Medium | { problem: string })[] })[];
  history?: History;
  moments?: Moment[];
  marks?: [kind: string, step: number, epoch: number, time: number][];
}

export interface FileData {
  root: string;
  names: Names;
  default: string[];
  table: Table;
  runs: Record<string, FileRun>;
  /** What was left out of the file; empty if nothing was. */
  cut: string;
}

const LEFT_OUT = new Set(["pid", "job", "run_name", "tags", "notes", "group", "default_root_dir"]);
const CODE = new Set(["git.commit", "git.branch", "git.dirty", "script", "command"]);

export class InFile implements Source {
  readonly isLive = false;
  readonly note: string;

  constructor(private readonly data: FileData) {
    this.note = data.cut;
  }

  /** The filter is a text here: the rows in which it appears. */
  async table(question: TableQuestion): Promise<Table> {
    const { table } = this.data;
    let rows = this.rows(question.where);
    const [noOrder, noGroups] = [this.whyUnknown(rows, question.sort), this.whyUnknown(rows, question.group)];
    if (question.sort && !noOrder) {
      const at = table.columns.indexOf(question.sort);
      const has = (row: Row): boolean => !isMissing(row.cells[at]);
      const sorted = rows.filter(has).reverse().sort((one, other) =>
        (question.isReversed ? -1 : 1) * inOrder(one.cells[at], other.cells[at]));
      rows = [...sorted, ...rows.filter((row) => !has(row)).reverse()];
    } else if (question.isReversed && !question.sort) rows = [...rows].reverse();
    const columns = question.columns.length ? question.columns : this.data.default;
    const numbers = columns.map((name) => table.columns.indexOf(name));
    const groups: TableGroup[] = [];
    if (question.group) {
      const at = table.columns.indexOf(question.group);
      const found = new Map<string, Row[]>();
      for (const row of rows) {
        const value = JSON.stringify(row.cells[at] ?? null);
        found.set(value, [...(found.get(value) ?? []), row]);
      }
      const sorted = [...found.values()].sort((one, other) => inOrder(one[0]?.cells[at], other[0]?.cells[at]));
      rows = sorted.flat();
      for (const its of sorted) {
        const means = numbers.map((number) => mean(its.map((row) => row.cells[number])));
        groups.push({ value: its[0]?.cells[at] ?? null, count: its.length, means });
      }
    }
    return {
      ...table,
      root: this.data.root,
      columns,
      found: rows.length,
      groups,
      unknown: noGroups || noOrder,
      first: question.first,
      rows: rows
        .slice(question.first, question.first + question.number)
        .map((row) => ({ ...row, cells: numbers.map((at) => row.cells[at] ?? null) })),
    };
  }

  private whyUnknown(rows: Row[], name: string): string {
    const at = this.data.table.columns.indexOf(name);
    const isKnown = !name || !rows.length || this.data.names["fields"]?.includes(name) || rows.some((row) => (row.cells[at] ?? null) !== null);
    return isKnown ? "" : `no run has '${name}'`;
  }

  private rows(where: string): Row[] {
    const wanted = where.toLowerCase();
    return this.data.table.rows.filter(
      (row) => !wanted || JSON.stringify([row.id, row.ending, row.reason, row.cells]).toLowerCase().includes(wanted),
    );
  }

  async columns(names: string[], where: string, keys: string[]): Promise<Columns> {
    const found = this.rows(where);
    const rows = [...found, ...this.data.table.rows.filter((row) => keys.includes(row.key) && !found.includes(row))];
    const numbers = names.map((name) => this.data.table.columns.indexOf(name));
    return {
      found: found.length,
      keys: rows.map((row) => row.key),
      ids: rows.map((row) => row.id),
      columns: numbers.map((at) => rows.map((row) => row.cells[at] ?? null)),
    };
  }

  async compare(keys: string[]): Promise<Comparison> {
    const runs = await Promise.all(keys.map((key) => this.run(key)));
    const differences: Comparison["differences"] = [];
    for (const kind of ["hparams", "config", "environment", "versions"] as const) {
      for (const name of new Set(runs.flatMap((run) => Object.keys(run[kind])))) {
        const values = runs.map((run) => run[kind][name] ?? null);
        // A package that one run has not loaded says nothing about its set-up.
        const told = values.filter((value) => value !== null || kind !== "versions");
        if (!LEFT_OUT.has(name) && new Set(told.map((value) => JSON.stringify(value))).size > 1) {
          differences.push({ kind: CODE.has(name) ? "code" : kind, name, values });
        }
      }
    }
    const names = new Set(runs.flatMap((run) => run.metrics.map((metric) => metric.name)));
    const metrics = [...names].map((name) => ({
      name,
      totals: runs.map((run) => {
        const metric = run.metrics.find((each) => each.name === name);
        return metric ? [metric["last"] ?? null, metric["low"] ?? null, metric["high"] ?? null] : null;
      }),
    }));
    return { differences, metrics, more_metrics: 0 };
  }

  async firstDifference(): Promise<FirstDifference> {
    throw new Problem("this file does not have the events; nightbus diff says where the runs first differ", 404);
  }

  async history(key: string): Promise<History> {
    const run = this.data.runs[key];
    if (!run?.history) throw new Problem(run?.problem ?? "this file has no such run", 404);
    const count = run.moments?.length ?? 0;
    return { ...run.history, note: `This file has ${count} moments of it; the nearest before is shown.` };
  }

  async moment(key: string, time: number): Promise<Moment> {
    const moments = this.data.runs[key]?.moments ?? [];
    const found = moments.filter((each) => each.time_s <= time + 1e-6).at(-1) ?? moments[0];
    if (!found) throw new Problem("this file has no moments of this run", 404);
    return found;
  }

  async media(keys: string[]): Promise<Record<string, MediaOfRun>> {
    return Object.fromEntries(keys.map((key) => {
      const run = this.data.runs[key];
      return [key, { is_read: true, problem: run?.problem ?? "", names: run?.media ?? [] }];
    }));
  }

  async medium(key: string, [attempt, seq]: MediaPlace): Promise<Medium> {
    for (const { places, items } of this.data.runs[key]?.media ?? []) {
      const found = items[places.findIndex((place) => place[0] === attempt && place[1] === seq)];
      if (!found) continue;
      if ("problem" in found && found.problem) throw new Problem(found.problem, 409);
      return found as Medium;
    }
    throw new Problem("this file does not have it", 404);
  }

  async histograms(key: string, name: string): Promise<Histograms> {
    const its = this.data.runs[key]?.media?.find((each) => each.name === name)?.items ?? [];
    const histograms = its.filter((each): each is Histogram => "edges" in each);
    return { all: histograms.length, is_read: true, histograms };
  }

  async sparklines(metric: string, keys: string[]): Promise<Record<string, Spark>> {
    return Object.fromEntries(keys.map((key) => {
      const columns = this.data.runs[key]?.curves?.[metric];
      const y = (columns?.[3] ?? []).map((value) => (typeof value === "number" ? value : null));
      return [key, { is_read: true, x: columns?.[0] ?? [], y }];
    }));
  }

  async names(): Promise<Names> {
    return this.data.names;
  }

  async run(key: string): Promise<RunAbout> {
    const about = this.data.runs[key]?.about;
    if (!about) throw new Problem(this.data.runs[key]?.problem ?? "this file has no such run", 404);
    return about;
  }

  async metrics(keys: string[]): Promise<Record<string, number>> {
    const found: Record<string, number> = {};
    for (const key of keys) {
      for (const [name, columns] of Object.entries(this.data.runs[key]?.curves ?? {})) {
        found[name] = (found[name] ?? 0) + columns[0].length;
      }
    }
    return found;
  }

  async curves(question: CurvesQuestion): Promise<Curve[]> {
    return question.keys.flatMap((key) => {
      const run = this.data.runs[key];
      const columns = run?.curves?.[question.metric];
      if (!run || !columns) return [];
      const at = { step: 0, epoch: 1, time: 2, wall: 2 }[question.x] as 0 | 1 | 2;
      const shift = question.x === "wall" ? (run.began_s ?? 0) : 0;
      const x = Float64Array.from(columns[at], (place) => place + shift);
      const y = Float64Array.from(columns[3], Number);
      const marks = (run.marks ?? []).map(([kind, ...when]): [string, number] => [kind, when[at] + shift]);
      const recorded = run.about?.metrics.find((each) => each.name === question.metric)?.["count"];
      const curve = { key, x, y, values: y.length, isExact: recorded === y.length, isRead: true, problem: "", marks };
      const drawn: Curve[] = [{ ...curve, isSmooth: false }];
      if (question.smoothing) drawn.push({ ...curve, y: means(y, question.smoothing), isSmooth: true });
      return drawn;
    });
  }

  async bands(question: BandsQuestion): Promise<Curve[]> {
    return Promise.all(Object.entries(question.groups).map(async ([key, keys]) => {
      const curves = (await this.curves({ ...question, keys })).filter(
        (curve) => curve.isSmooth === question.smoothing > 0);
      const { x, mean: y, low, high } = band(curves);
      return {
        key, x, y, range: { low, high, runs: curves.length }, values: y.length, isSmooth: false, isExact: false,
        isRead: true, problem: "", marks: [],
      };
    }));
  }

  async offer(): Promise<null> {
    return null;
  }

  async steer(): Promise<SteerAnswer> {
    throw new Problem("a file cannot steer a run", 0);
  }

  listen(): () => void {
    return () => {};
  }
}

/** Exponential means that begin at the first value; what is not finite stays as it is. */
function means(values: Float64Array, weight: number): Float64Array {
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

function mean(cells: (Cell | undefined)[]): number | null {
  const numbers = cells.filter((cell): cell is number => typeof cell === "number");
  return numbers.length ? numbers.reduce((sum, value) => sum + value, 0) / numbers.length : null;
}
