// Answers from the data that lie in an exported file.

import {
  type Cell,
  type Curve,
  type CurvesQuestion,
  type Names,
  Problem,
  type RunAbout,
  type Source,
  type Table,
  type TableQuestion,
} from "./source";

type Number_ = number | string; // "NaN", "Infinity", "-Infinity"
type Columns = [steps: number[], epochs: number[], times: number[], values: Number_[]];

interface FileRun {
  problem?: string;
  about?: RunAbout;
  began_s?: number;
  curves?: Record<string, Columns>;
}

export interface FileData {
  root: string;
  names: Names;
  default: string[];
  table: Table;
  runs: Record<string, FileRun>;
}

export class InFile implements Source {
  readonly isLive = false;

  constructor(private readonly data: FileData) {}

  /** The filter is a text here: the rows in which it appears. */
  async table(question: TableQuestion): Promise<Table> {
    const { table } = this.data;
    const wanted = question.where.toLowerCase();
    let rows = table.rows.filter(
      (row) => !wanted || JSON.stringify([row.id, row.ending, row.cells]).toLowerCase().includes(wanted),
    );
    if (question.sort) {
      const at = table.columns.indexOf(question.sort);
      rows = [...rows].sort((one, other) => order(one.cells[at], other.cells[at]));
    }
    if (question.isReversed) rows = [...rows].reverse();
    const columns = question.columns.length ? question.columns : this.data.default;
    const numbers = columns.map((name) => table.columns.indexOf(name));
    return {
      ...table,
      root: this.data.root,
      columns,
      found: rows.length,
      first: question.first,
      rows: rows
        .slice(question.first, question.first + question.number)
        .map((row) => ({ ...row, cells: numbers.map((at) => row.cells[at] ?? null) })),
    };
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
      const curve = { key, x, y, values: y.length, isExact: false, isRead: true, problem: "" };
      const drawn: Curve[] = [{ ...curve, isSmooth: false }];
      if (question.smoothing) drawn.push({ ...curve, y: means(y, question.smoothing), isSmooth: true });
      return drawn;
    });
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

function order(one: Cell | undefined, other: Cell | undefined): number {
  const rank = (cell: Cell | undefined): number => (cell == null ? 2 : typeof cell === "number" ? 0 : 1);
  if (rank(one) !== rank(other)) return rank(one) - rank(other);
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other));
}
