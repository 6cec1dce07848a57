// Small curves of one metric in the table.

import { useRef } from "preact/hooks";
import { useAsked } from "./asked";
import { largest, smallest } from "./numbers";
import type { Row, Source, Spark } from "./source";

const WIDTH = 90;
const HEIGHT = 22;
const MARGIN = 2;
const MOST_ASKED = 100;
const AGAIN_MS = 300;
const MOST_KEPT = 5000;

/** The curves of the rows in sight; those of runs that go on are asked for again. And what went wrong. */
export function useSparks(source: Source, metric: string, rows: Row[], told: number): [Map<string, Spark>, string] {
  const sparks = useRef(new Map<string, Spark>());
  const of = useRef(metric);
  if (of.current !== metric || sparks.current.size > MOST_KEPT) sparks.current = new Map();
  of.current = metric;
  const asOf = useRef(new Map<string, number>());
  const keys = rows.map((row) => row.key);
  const ask = async (): Promise<boolean> => {
    const its = sparks.current;
    // Of a run that has ended, what it recorded last is asked for once more.
    const when = new Map(rows.map((row) => [row.key, row.ending === "running" ? told : -1]));
    const wanted = rows.filter(({ key }) => !its.get(key)?.is_read || asOf.current.get(key) !== when.get(key));
    const asked = wanted.slice(0, MOST_ASKED).map((row) => row.key);
    if (!asked.length) return true;
    const found = await source.sparklines(metric, asked);
    for (const [key, spark] of Object.entries(found)) {
      its.set(key, spark);
      if (spark.is_read) asOf.current.set(key, when.get(key) ?? -1);
    }
    return wanted.every(({ key }) => found[key]?.is_read);
  };
  const { problem } = useAsked(metric && keys.length ? metric : null, `${told} ${keys.join()}`, ask, {
    everyMs: AGAIN_MS / 3, againMs: AGAIN_MS, isWhole: (isWhole) => isWhole,
  });
  return [sparks.current, problem];
}

export function Sparkline({ spark, colour, name }: { spark: Spark | undefined; colour: string; name: string }) {
  if (!spark) return <span class="quiet">…</span>;
  if (spark.is_large) return <span class="quiet" title="The log is large: it is read when its curves are drawn.">not read</span>;
  const values = spark.y.filter((value): value is number => value !== null);
  if (!values.length) return spark.is_read ? null : <span class="quiet">…</span>;
  const [low, high] = [smallest(values), largest(values)];
  const [from, to] = [spark.x[0] as number, spark.x[spark.x.length - 1] as number];
  const x = (at: number): number => MARGIN + ((at - from) / (to - from || 1)) * (WIDTH - 2 * MARGIN);
  // By halves: the difference of two numbers may be none.
  const y = (value: number): number =>
    HEIGHT - MARGIN - (high > low ? (value / 2 - low / 2) / (high / 2 - low / 2) : 0.5) * (HEIGHT - 2 * MARGIN);
  let path = "";
  let isDown = false;
  spark.x.forEach((at, place) => {
    const value = spark.y[place];
    if (value === null || value === undefined) {
      isDown = false;
      return;
    }
    path += `${isDown ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    isDown = true;
  });
  const gaps = spark.x.filter((_, place) => spark.y[place] === null);
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img"
      aria-label={`${name} from ${low} to ${high}${gaps.length ? ", with values that are not finite" : ""}`}>
      {values.length === 1 && <circle cx={x(spark.x[spark.y.findIndex((value) => value !== null)] as number)} cy={HEIGHT / 2} r="1.8" fill={colour} />}
      <path d={path} fill="none" stroke={colour} stroke-width="1.4" stroke-linejoin="round" />
      {gaps.map((at, place) => <path key={place} d={`M${x(at) - 2.5} ${HEIGHT}h5l-2.5 -4z`} class="gap" />)}
    </svg>
  );
}
