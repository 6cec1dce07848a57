// Small curves of one metric in the table.

import { useEffect, useRef, useState } from "preact/hooks";
import type { Row, Source, Spark } from "./source";

const WIDTH = 90;
const HEIGHT = 22;
const MARGIN = 2;
const MOST_ASKED = 100;
const AGAIN_MS = 300;
const MOST_KEPT = 5000;

/** The curves of the rows in sight; those of runs that go on are asked for again. */
export function useSparks(source: Source, metric: string, rows: Row[], told: number): Map<string, Spark> {
  const sparks = useRef(new Map<string, Spark>());
  const of = useRef("");
  const [, setCount] = useState(0);
  const keys = rows.map((row) => row.key);
  useEffect(() => {
    if (!metric) return undefined;
    if (of.current !== metric || sparks.current.size > MOST_KEPT) sparks.current.clear();
    of.current = metric;
    let isOver = false;
    let timer = 0;
    const running = new Set(rows.filter((row) => row.ending === "running").map((row) => row.key));
    const ask = (wanted: string[]): void => {
      if (!wanted.length || isOver) return;
      source.sparklines(metric, wanted.slice(0, MOST_ASKED)).then((found) => {
        if (isOver) return;
        for (const [key, spark] of Object.entries(found)) sparks.current.set(key, spark);
        setCount((count) => count + 1);
        const left = wanted.filter((key) => !(key in found) || !found[key]?.is_read);
        if (left.length) timer = window.setTimeout(() => ask(left), AGAIN_MS);
      }, () => {});
    };
    timer = window.setTimeout(
      () => ask(keys.filter((key) => running.has(key) || !sparks.current.get(key)?.is_read)), AGAIN_MS / 3);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [metric, keys.join(), told]);
  return sparks.current;
}

export function Sparkline({ spark, colour, name }: { spark: Spark | undefined; colour: string; name: string }) {
  if (!spark) return <span class="quiet">…</span>;
  if (spark.is_large) return <span class="quiet" title="The log is large: it is read when its curves are drawn.">not read</span>;
  const values = spark.y.filter((value): value is number => value !== null);
  if (!values.length) return spark.is_read ? null : <span class="quiet">…</span>;
  const [low, high] = [Math.min(...values), Math.max(...values)];
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
