// One chart: a metric of several runs.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { inks, isDark, type Line } from "./colours";
import { duration, moment, number } from "./format";
import { beyond, extent, type Frame, heights, type Ordered, ordered, paint, type Shown, type Span } from "./lines";
import type { Source, XAxis } from "./source";

const HEIGHT = 220;
const LARGE = 480;
const REFRESH_MS = 100;
const READ_ON_MS = 50;
const REST_MS = 120; // that a part is looked at before it is read in detail
const MOST_STRETCHES = 6_000; // of all curves together: of more, lines cannot be told apart
const MOST_SHOWN = 8; // of values under the pointer

interface ChartProps {
  source: Source;
  metric: string;
  lines: Drawn[];
  x: XAxis;
  isLog: boolean;
  smoothing: number;
  /** Outliers are left out. */
  isTrimmed: boolean;
}

/** Where the pointer is: along the axis, and in pixels from the top. */
interface Pointer {
  at: number;
  top: number;
}

/** A run, or a group of runs, of which mean and range are drawn. */
export interface Drawn {
  key: string;
  name: string;
  line: Line;
  /** Changes when it has new values. */
  version: string;
  members: string[] | null;
}

export function Chart(props: ChartProps) {
  const { source, metric, lines, x, isLog, smoothing, isTrimmed } = props;
  const keys = lines.map((each) => each.key);
  const versions = Object.fromEntries(lines.map((each) => [each.key, each.version]));
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const curves = useRef(new Map<string, Ordered[]>());
  const shown = useRef<Shown[]>([]);
  const inView = useRef<Span | null>(null);
  const seen = useRef<Record<string, string>>({});
  const [isVisible, setVisible] = useState(false);
  const [range, setRange] = useState<Span | null>(null);
  const [problem, setProblem] = useState("");
  const [drawn, setDrawn] = useState(0);
  const [isLarge, setLarge] = useState(false);
  const height = isLarge ? LARGE : HEIGHT;
  const [under, setUnder] = useState<Pointer | null>(null);
  const asked = JSON.stringify([metric, lines.map((each) => [each.key, each.members]), x, smoothing, range]);
  const version = keys.map((key) => versions[key] ?? "").join();

  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => setVisible(entry?.isIntersecting ?? false), {
      rootMargin: "200px",
    });
    if (place.current) watcher.observe(place.current);
    return () => watcher.disconnect();
  }, []);

  // What is drawn is asked for: all of it when the question changes, else the runs that have moved.
  // One question is on its way at a time, and its answer is drawn, however fast the runs go on.
  // What is there is moved at once; a part of it is asked for in detail when the view rests.
  const lastAsked = useRef("");
  const lastRange = useRef(range);
  const now = useRef(versions);
  now.current = versions;
  const askOn = useRef(() => {});
  useEffect(() => {
    if (!isVisible) return undefined;
    let isOver = false;
    let isAsking = false;
    let timer = 0;
    let notBefore = lastRange.current === range ? 0 : performance.now() + REST_MS;
    lastRange.current = range;
    if (lastAsked.current !== asked) {
      lastAsked.current = asked;
      seen.current = {};
      for (const key of [...curves.current.keys()]) if (!keys.includes(key)) curves.current.delete(key);
    }
    const moved = (): string[] => keys.filter((key) => seen.current[key] !== (now.current[key] ?? ""));
    const ask = async (): Promise<void> => {
      const wanted = moved();
      const asOf = { ...now.current };
      const stretches = Math.round(Math.min(place.current?.clientWidth ?? 400, MOST_STRETCHES / keys.length));
      const [from, to] = range ?? [-Infinity, Infinity];
      const began = performance.now();
      let left: string[] = [];
      isAsking = true;
      try {
        const question = { metric, x, from, to, stretches: Math.max(stretches, 30), smoothing };
        const groups = lines.filter((each) => each.members && wanted.includes(each.key));
        const found = groups.length
          ? await source.bands({ ...question, groups: Object.fromEntries(groups.map((each) => [each.key, each.members ?? []])) })
          : await source.curves({ ...question, keys: wanted });
        if (isOver) return;
        for (const key of wanted) curves.current.set(key, found.filter((each) => each.key === key).map(ordered));
        setProblem("");
        setDrawn((count) => count + 1);
        left = found.filter((each) => !each.isRead).map((each) => each.key);
      } catch (error) {
        if (isOver) return;
        setProblem(String((error as Error).message));
      }
      for (const key of wanted) if (!left.includes(key)) seen.current[key] = asOf[key] ?? "";
      const took = performance.now() - began;
      notBefore = performance.now() + Math.max(left.length ? READ_ON_MS : REFRESH_MS - took, took);
      isAsking = false;
      askOn.current();
    };
    askOn.current = () => {
      if (isOver || isAsking || !moved().length) return;
      clearTimeout(timer);
      timer = window.setTimeout(() => void ask(), Math.max(0, notBefore - performance.now()));
    };
    askOn.current();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [isVisible, asked]);
  useEffect(() => askOn.current(), [version]);

  const isDrawn = drawn > 0;
  useEffect(() => {
    if (!isVisible || !place.current || !isDrawn) return undefined;
    const grid = { stroke: inks().edge, width: 1 };
    const axis = { stroke: inks().quiet, grid, ticks: grid, font: "11px system-ui" };
    const made = new uPlot(
      {
        width: place.current.clientWidth,
        height,
        legend: { show: false },
        scales: {
          x: { time: x === "wall", range: (_, low, high) => [low, high] },
          y: { ...(isLog ? { distr: 3 as const } : {}), range: () => {
            const span = inView.current && heights(shown.current.map((each) => each.ordered), inView.current, isLog, isTrimmed);
            return span ? withRoom(span, isLog) : [null, null];
          } },
        },
        // The axes are the library's; the curves are painted in its hook, each along its own places.
        series: [{}, { paths: () => null, points: { show: false } }],
        axes: [
          { ...axis, size: 32, ...(x === "time" ? { values: (_, all) => all.map(duration) } : {}) },
          { ...axis, size: 62, values: (_, all) => all.map((each) => (each === null ? "" : number(each))) },
        ],
        cursor: { drag: { setScale: false, x: true, y: false }, points: { show: false } },
        hooks: {
          setSelect: [
            (chart) => {
              if (chart.select.width < 4) return;
              const at = (left: number): number => chart.posToVal(left, "x");
              setRange([at(chart.select.left), at(chart.select.left + chart.select.width)]);
              chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            },
          ],
          setCursor: [({ cursor, posToVal }) => setUnder(cursor.left != null && cursor.left >= 0
            ? { at: posToVal(cursor.left, "x"), top: cursor.top ?? 0 } : null)],
          draw: [(chart) => draw(chart, shown.current, isLog, isTrimmed)],
        },
      },
      [[], []],
      place.current,
    );
    plot.current = made;
    const fit = new ResizeObserver(() => {
      const width = place.current?.clientWidth ?? 0;
      if (width && width !== made.width) made.setSize({ width, height });
    });
    fit.observe(place.current);
    return () => {
      fit.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [isDrawn, isVisible, isLog, x, isLarge, isTrimmed, isDark.matches]);

  const painted = lines.flatMap((each): Shown[] => (curves.current.get(each.key) ?? [])
    .filter((its) => its.x.length)
    .map((its) => ({ ordered: its, line: each.line, isFaint: smoothing > 0 && !its.curve.isSmooth && !its.low })));
  const whole = extent(painted.map((each) => each.ordered));
  const view = range ?? whole;
  useEffect(() => {
    [shown.current, inView.current] = [painted, view];
    plot.current?.batch(() => {
      plot.current?.setData(whole ? [whole, [0, 0]] : [[], []], false);
      if (view) plot.current?.setScale("x", { min: view[0], max: view[1] });
    });
  }, [drawn, range, isVisible, isLog, x, isLarge, isTrimmed, smoothing, isDark.matches,
    lines.map((each) => each.key + each.line.colour + each.line.dash).join()]);

  const all = keys.flatMap((key) => curves.current.get(key) ?? []);
  const marks = new Set(all.flatMap(({ curve }) => curve.marks.map(([kind]) => kind)));
  const odd = all.reduce((count, each) => count + (each.curve.isSmooth ? 0 : each.odd.length), 0);
  const outliers = useMemo(() => (isTrimmed && view ? outliersOf(painted, view, isLog) : 0),
    [drawn, view?.join(), isLog, isTrimmed, smoothing, keys.join()]);
  const cut = all.find(({ curve }) => curve.problem)?.curve.problem;
  const isPartly = all.some(({ curve }) => !curve.isRead);
  const zoom = (factor: number, shift = 0): void => {
    const scale = plot.current?.scales["x"];
    if (scale?.min == null || scale.max == null) return;
    const middle = (scale.min + scale.max) / 2 + shift * (scale.max - scale.min);
    const half = ((scale.max - scale.min) / 2) * factor;
    setRange([middle - half, middle + half]);
  };
  const pressed = (event: KeyboardEvent): void => {
    const acts: Record<string, () => void> = {
      "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => setRange(null), Escape: () => setRange(null),
      ArrowLeft: () => zoom(1, -0.25), ArrowRight: () => zoom(1, 0.25),
    };
    const act = acts[event.key];
    if (act && event.target === event.currentTarget) {
      event.preventDefault();
      act();
    }
  };

  const wheeled = (event: WheelEvent): void => {
    const across = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
    if (!range || Math.abs(across) < Math.abs(event.deltaY) || !across) return;
    event.preventDefault();
    zoom(1, across / (place.current?.clientWidth || 400));
  };

  return (
    <figure class={isLarge ? "chart large-chart" : "chart"} tabIndex={0} onKeyDown={pressed} aria-label={described(props, curves.current)}>
      <figcaption>
        <span class="metric" title={metric}>{metric || "(no name)"}</span>
        {range && (
          <>
            <button onClick={() => setRange(null)}>whole</button>
            <button aria-label={`earlier part of ${metric}`} onClick={() => zoom(1, -0.5)}>←</button>
            <button aria-label={`later part of ${metric}`} onClick={() => zoom(1, 0.5)}>→</button>
          </>
        )}
        <button aria-label={`zoom into ${metric}`} onClick={() => zoom(0.5)}>+</button>
        <button aria-label={`zoom out of ${metric}`} onClick={() => zoom(2)}>−</button>
        <button aria-label={`${metric} as large as can be`} aria-pressed={isLarge} onClick={() => setLarge(!isLarge)}>⤢</button>
      </figcaption>
      <div class="plot" ref={place} onDblClick={() => setRange(null)} onWheel={wheeled} role="img" aria-hidden="true" />
      <p class="under">
        {problem || cut ? <span class="wrong">{problem || cut}</span>
          : under === null ? notes(odd, outliers, isPartly, range !== null && all.some(({ curve }) => !curve.isExact && !curve.range), drawn, all, marks)
          : values(under, props, curves.current, plot.current)}
      </p>
    </figure>
  );
}

function notes(odd: number, outliers: number, isPartly: boolean, isFolded: boolean, drawn: number, all: Ordered[],
  marks: Set<string>): string {
  if (!drawn) return "…";
  const said = [];
  if (!all.some((each) => each.x.length)) said.push(isPartly ? "" : "no values yet");
  if (isPartly) said.push("the log is still being read …");
  if (odd) said.push(`${odd} ${odd === 1 ? "point is" : "points are"} NaN or infinite (▲)`);
  if (outliers) said.push(`outliers are left out in ${outliers} ${outliers === 1 ? "place" : "places"} (△)`);
  if (marks.has("attempt")) said.push("┆ a resumed attempt goes on");
  if (marks.has("fault")) said.push("✕ an exception");
  if (isFolded) said.push("of so many values, those that show how it went are kept");
  return said.filter(Boolean).join("; ");
}

/** The values of the runs at a place of the axis, the nearest of each; of many, those near the pointer. */
function values({ at, top }: Pointer, props: ChartProps, curves: Map<string, Ordered[]>, chart: uPlot | null) {
  const found = props.lines.flatMap((drawn) => {
    const of = curves.get(drawn.key) ?? [];
    const curve = of[of.length - 1];
    if (!curve?.x.length) return [];
    const place = nearest(curve.x, at);
    const away = Math.abs((chart?.valToPos(curve.y[place] as number, "y") ?? 0) - top);
    return [{ ...drawn, curve, place, away: Number.isFinite(away) ? away : Infinity }];
  });
  const near = found.length > 1 ? found.reduce((one, other) => (other.away < one.away ? other : one)) : null;
  if (found.length > MOST_SHOWN) found.sort((one, other) => one.away - other.away);
  const shown = found.slice(0, MOST_SHOWN).map(({ key, name, line, curve, place }) => (
    <span key={key} class={key === near?.key ? "value near" : "value"}>
      <i style={{ background: line.colour }} />
      {name} <b>{number(curve.y[place] as number)}</b>
      {curve.low && curve.high && ` (${number(curve.low[place] as number)} to ${number(curve.high[place] as number)})`}
    </span>
  ));
  const where = { step: `step ${Math.round(at)}`, epoch: `epoch ${number(at)}`, time: duration(Math.max(at, 0)),
    wall: moment(at) }[props.x];
  const more = found.length - MOST_SHOWN;
  return <>{where}: {shown}{more > 0 ? ` and ${more} more` : ""}</>;
}

function nearest(x: Float64Array, at: number): number {
  let low = 0;
  let high = x.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((x[middle] as number) < at) low = middle + 1;
    else high = middle;
  }
  const before = Math.max(low - 1, 0);
  return Math.abs((x[before] as number) - at) <= Math.abs((x[low] as number) - at) ? before : low;
}

/** Paint the curves and their marks between the axes. */
function draw(chart: uPlot, shown: Shown[], isLog: boolean, isTrimmed: boolean): void {
  const { ctx, scales: { x, y } } = chart;
  const { left, top, width, height } = chart.bbox;
  if (x?.min == null || x.max == null || y?.min == null || y.max == null) return;
  const frame: Frame = { left, top, width, height, x: [x.min, x.max], y: [y.min, y.max], isLog };
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  for (const each of shown) paint(ctx, frame, each);
  ctx.restore();
  drawMarks(chart, shown);
  if (isTrimmed) drawBeyond(chart, shown, frame);
  drawNotFinite(chart, shown);
}

/** A line where a resumed attempt goes on, a cross where an exception was. */
function drawMarks(chart: uPlot, shown: Shown[]): void {
  const { ctx } = chart;
  const { top, height, left, width } = chart.bbox;
  const size = 3.5 * devicePixelRatio;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  for (const { ordered: { curve }, line } of shown) {
    if (curve.isSmooth) continue;
    ctx.strokeStyle = line.colour;
    for (const [kind, at] of curve.marks) {
      const x = chart.valToPos(at, "x", true);
      if (!(x >= left && x <= left + width)) continue;
      const isFault = kind === "fault";
      const middle = top + 2 * size;
      ctx.setLineDash(isFault ? [] : [2 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x - (isFault ? size : 0), isFault ? middle - size : top);
      ctx.lineTo(x + (isFault ? size : 0), isFault ? middle + size : top + height);
      if (isFault) {
        ctx.moveTo(x - size, middle + size);
        ctx.lineTo(x + size, middle - size);
      }
      ctx.stroke();
    }
  }
  ctx.restore();
}

/** In how many places curves go beyond the edges. */
function outliersOf(shown: Shown[], view: Span, isLog: boolean): number {
  const span = heights(shown.map((each) => each.ordered), view, isLog, true);
  const [low, high] = span ? withRoom(span, isLog) : [null, null];
  if (low === null || high === null) return 0;
  return shown.filter((each) => !each.isFaint && !each.ordered.low)
    .reduce((count, { ordered: its }) => count + beyond(its, view, [low, high], isLog).length, 0);
}

function withRoom(span: Span, isLog: boolean): uPlot.Range.MinMax {
  return isLog ? uPlot.rangeLog(...span, 10, false) : uPlot.rangeNum(...span, 0.1, true);
}

/** An open triangle at the edge where a curve goes beyond it. */
function drawBeyond({ ctx, valToPos }: uPlot, shown: Shown[], { top, height, x, y, isLog }: Frame): void {
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  for (const { ordered: its, line, isFaint } of shown) {
    if (isFaint || its.low) continue;
    ctx.strokeStyle = line.colour;
    for (const place of beyond(its, x, y, isLog)) {
      const across = valToPos(its.x[place] as number, "x", true);
      const isHigh = (its.y[place] as number) > y[1];
      const edge = isHigh ? top : top + height;
      ctx.beginPath();
      ctx.moveTo(across - size, edge + (isHigh ? 1.6 : -1.6) * size);
      ctx.lineTo(across + size, edge + (isHigh ? 1.6 : -1.6) * size);
      ctx.lineTo(across, edge);
      ctx.closePath();
      ctx.stroke();
    }
  }
  ctx.restore();
}

/** A mark at the foot of the chart for each value that is NaN or infinite. */
function drawNotFinite(chart: uPlot, shown: Shown[]): void {
  const { ctx } = chart;
  const { top, height, left, width } = chart.bbox;
  const size = 5 * devicePixelRatio;
  ctx.save();
  for (const { ordered: its, line } of shown) {
    if (its.curve.isSmooth) continue;
    ctx.fillStyle = line.colour;
    for (const place of its.odd) {
      const x = chart.valToPos(its.x[place] as number, "x", true);
      if (!(x >= left && x <= left + width)) continue;
      const isHigh = its.y[place] === Infinity;
      const foot = isHigh ? top : top + height;
      ctx.beginPath();
      ctx.moveTo(x - size, foot);
      ctx.lineTo(x + size, foot);
      ctx.lineTo(x, foot + (isHigh ? 1.6 : -1.6) * size);
      ctx.fill();
    }
  }
  ctx.restore();
}

function described(props: ChartProps, curves: Map<string, Ordered[]>): string {
  const said = props.lines.slice(0, MOST_SHOWN).map(({ key, name }) => {
    const y = curves.get(key)?.[0]?.y;
    return y?.length ? `${name}: last ${number(y[y.length - 1] as number)}` : `${name}: no values`;
  });
  return `${props.metric} by ${props.x}. ${said.join(", ")}. Keys: plus and minus zoom, arrows move, 0 shows all.`;
}
