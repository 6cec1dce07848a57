// Many runs on a canvas: parallel coordinates of what was set and what came out, and one against another.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { inks, isDark } from "./colours";
import { cell } from "./format";
import { type Scale, scaleOf } from "./scales";
import type { Columns } from "./source";

const HEIGHT = 340;
const TOP = 26;
const BOTTOM = 40; // with a place for what is missing
const SIDE = 60;
const FONT = "11px system-ui, sans-serif";
const NEAR = 12; // pixels from the pointer
const MOST_FAINT = 400; // points; more are drawn paler
const MANY = 250; // lines; the more there are, the paler they are drawn

interface PlotProps {
  columns: Columns;
  names: string[];
  colour: (key: string) => string;
  chosen: string[];
  open: (key: string) => void;
}

type Spans = Record<string, [number, number]>;

export function ParallelCoordinates(props: PlotProps & {
  /** Has only such runs in the table; null where its filter knows no conditions. */
  filter: ((condition: string) => void) | null;
  draw: (keys: string[]) => void;
}) {
  const { columns, names, colour, chosen, open, filter, draw } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [spans, setSpans] = useState<Spans>({});
  const [under, setUnder] = useState<number | null>(null);
  const drag = useRef<{ axis: number; from: number; marks: boolean } | null>(null);
  const scales = useMemo(() => names.map((name, at) => scaleOf(name, columns.columns[at] ?? [])), [columns, names.join()]);
  // Where each run crosses each axis, worked out once: thousands of runs are drawn while a range is dragged.
  const shares = useMemo(() => scales.map((scale, axis) => columns.keys.map((_, run) => scale.at(columns.columns[axis]?.[run]))),
    [scales]);
  const marked = names.flatMap((name, axis): [number, [number, number]][] => (spans[name] ? [[axis, spans[name]]] : []));
  const isInside = (run: number): boolean => marked.every(([axis, [low, high]]) => {
    const share = shares[axis]?.[run];
    return share != null && share >= low && share <= high;
  });
  const hasSpans = marked.length > 0;
  const inside = hasSpans ? columns.keys.reduce((count, _, run) => count + (isInside(run) ? 1 : 0), 0) : columns.keys.length;

  const path = (ctx: CanvasRenderingContext2D, x: (axis: number) => number, run: number): void => {
    ctx.beginPath();
    shares.forEach((its, axis) => {
      const y = height(its[run] ?? null);
      if (axis) ctx.lineTo(x(axis), y);
      else ctx.moveTo(x(axis), y);
    });
    ctx.stroke();
  };
  // The lines stay as they are drawn while the pointer moves over them.
  const lines = useRef<{ of: string; with: unknown[]; picture: HTMLCanvasElement } | null>(null);
  useSketch(canvas, (ctx, width) => {
    const x = axisPlaces(width, names.length);
    const now = { of: JSON.stringify([spans, width, devicePixelRatio, isDark.matches, chosen]), with: [shares, colour] };
    if (lines.current?.of !== now.of || lines.current.with.some((each, place) => each !== now.with[place])) {
      const picture = document.createElement("canvas");
      [picture.width, picture.height] = [ctx.canvas.width, ctx.canvas.height];
      const below = picture.getContext("2d");
      below?.scale(devicePixelRatio, devicePixelRatio);
      if (below) drawLines(below, x);
      lines.current = { ...now, picture };
    }
    ctx.drawImage(lines.current.picture, 0, 0, width, HEIGHT);
    if (under !== null && under < columns.keys.length) {
      ctx.strokeStyle = colour(columns.keys[under] as string);
      ctx.lineWidth = 3;
      path(ctx, x, under);
    }
    scales.forEach((scale, axis) => drawAxis(ctx, scale, x, axis, names.length, spans[scale.name]));
  });
  const drawLines = (ctx: CanvasRenderingContext2D, x: (axis: number) => number): void => {
    const drawn = new Set(chosen);
    const ranks: [number[], number[], number[]] = [[], [], []];
    columns.keys.forEach((key, run) => ranks[!isInside(run) ? 0 : drawn.has(key) ? 2 : 1].push(run));
    ranks.forEach((its, rank) => {
      ctx.globalAlpha = rank === 2 ? 0.85 : Math.min(rank === 0 ? 0.35 : 0.85, Math.max(MANY / its.length, 0.05));
      ctx.lineWidth = rank === 2 ? 1.8 : 1;
      for (const run of its) {
        ctx.strokeStyle = rank === 0 ? inks().edge : colour(columns.keys[run] as string);
        path(ctx, x, run);
      }
    });
  };

  const at = (event: PointerEvent): { axis: number; share: number; x: number; y: number } => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const place = axisPlaces(box.width, names.length);
    let axis = 0;
    names.forEach((_, each) => {
      if (Math.abs(place(each) - x) < Math.abs(place(axis) - x)) axis = each;
    });
    return { axis, share: Math.min(Math.max((HEIGHT - BOTTOM - y) / (HEIGHT - BOTTOM - TOP), 0), 1), x, y };
  };
  const nearestRun = (x: number, y: number, width: number): number | null => {
    const place = axisPlaces(width, names.length);
    let best: number | null = null;
    let distance = NEAR;
    const left = Math.min(Math.max(names.findIndex((_, axis) => place(axis + 1) >= x), 0), Math.max(names.length - 2, 0));
    const [ones, others] = [shares[left] ?? [], shares[Math.min(left + 1, names.length - 1)] ?? []];
    const between = place(left + 1) - place(left);
    const share = between > 0 ? (x - place(left)) / between : 0;
    columns.keys.forEach((_, run) => {
      if (hasSpans && !isInside(run)) return;
      const [one, other] = [height(ones[run] ?? null), height(others[run] ?? null)];
      const away = Math.abs(one + (other - one) * Math.min(Math.max(share, 0), 1) - y);
      if (away < distance) [best, distance] = [run, away];
    });
    return best;
  };
  const moved = (event: PointerEvent): void => {
    const { share, x, y } = at(event);
    const began = drag.current;
    if (!began) return setUnder(nearestRun(x, y, (event.currentTarget as HTMLElement).clientWidth));
    const name = names[began.axis] as string;
    if (began.marks && Math.abs(share - began.from) > 0.01) {
      setUnder(null); // how many are in the range is said instead
      setSpans((before) => ({ ...before, [name]: [Math.min(share, began.from), Math.max(share, began.from)] }));
    }
  };
  const released = (event: PointerEvent): void => {
    const { share, x, y } = at(event);
    const began = drag.current;
    drag.current = null;
    if (!began || Math.abs(share - began.from) > 0.01) return;
    const name = names[began.axis] as string;
    if (spans[name]) setSpans(({ [name]: _, ...others }) => others);
    else {
      const run = nearestRun(x, y, (event.currentTarget as HTMLElement).clientWidth);
      if (run !== null) open(columns.keys[run] as string);
    }
  };
  const condition = names.flatMap((name, axis) => {
    const span = spans[name];
    return span ? (scales[axis]?.condition(span[0], span[1]) || []) : [];
  }).join(" and ");
  return (
    <div class="plotted">
      <div class="axes" onPointerMove={moved} onPointerLeave={() => setUnder(null)}
        onPointerDown={(event) => {
          const { axis, share } = at(event);
          // A finger that is drawn along an axis marks a range; elsewhere it moves the page.
          drag.current = { axis, from: share, marks: event.pointerType !== "touch" || event.target !== canvas.current };
          event.currentTarget.setPointerCapture(event.pointerId);
        }} onPointerUp={released} onPointerCancel={() => { drag.current = null; }}>
        <canvas ref={canvas} class="many" role="img"
          aria-label={`Parallel coordinates of ${columns.keys.length} runs along ${names.join(", ")}. The table has the same values.`} />
        {names.map((name, axis) => <i key={name} style={{ left: axisLeft(axis, names.length) }} />)}
      </div>
      <p class="under">
        {under !== null ? said(columns, names, under)
          : hasSpans ? `${inside} of ${columns.keys.length} runs are in the marked ranges`
          : "Drag along an axis to mark a range; click a line to open its run."}{" "}
        {hasSpans && <button onClick={() => setSpans({})}>all</button>}{" "}
        {hasSpans && inside > 0 && <button onClick={() => draw(columns.keys.filter((_, run) => isInside(run)))}>draw these</button>}{" "}
        {filter && condition && inside > 0 && <button onClick={() => filter(condition)}>only these in the table</button>}
      </p>
    </div>
  );
}

export function Scatter({ columns, names, colour, chosen, open }: PlotProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [under, setUnder] = useState<number | null>(null);
  const scales = useMemo(() => names.map((name, at) => scaleOf(name, columns.columns[at] ?? [])), [columns, names.join()]);
  const places = (width: number): ([number, number] | null)[] => columns.keys.map((_, run) => {
    const [x, y] = [0, 1].map((axis) => scales[axis]?.at(columns.columns[axis]?.[run]) ?? null);
    return x == null || y == null ? null : [SIDE + x * (width - SIDE - 20), height(y)];
  });
  const missing = places(100).filter((place) => place === null).length;
  useSketch(canvas, (ctx, width) => {
    const [across, up] = scales;
    if (!across || !up) return;
    ctx.font = FONT;
    ctx.strokeStyle = inks().edge;
    ctx.fillStyle = inks().quiet;
    ctx.lineWidth = 1;
    for (const { label, at } of spaced(up.ticks, 16 / (HEIGHT - TOP - BOTTOM))) {
      ctx.textAlign = "right";
      ctx.textBaseline = "middle";
      ctx.fillText(shortened(ctx, label, SIDE - 8), SIDE - 6, height(at));
      ctx.strokeRect(SIDE, height(at), width - SIDE - 20, 0);
    }
    for (const { label, at } of spaced(across.ticks, 70 / (width - SIDE - 20))) {
      ctx.textAlign = at > 0.95 ? "right" : "center";
      ctx.textBaseline = "top";
      ctx.fillText(shortened(ctx, label, 90), SIDE + at * (width - SIDE - 20) + (at > 0.95 ? 16 : 0), HEIGHT - BOTTOM + 8);
    }
    ctx.textAlign = "center";
    ctx.fillText(`${across.name}${across.isLog ? " (logarithmic)" : ""}`, (width + SIDE) / 2, HEIGHT - 14);
    ctx.textAlign = "left";
    ctx.fillText(`${up.name}${up.isLog ? " (logarithmic)" : ""}`, 4, 4);
    const drawn = new Set(chosen);
    places(width).forEach((place, run) => {
      if (!place) return;
      const key = columns.keys[run] as string;
      ctx.fillStyle = colour(key);
      ctx.globalAlpha = run === under || drawn.has(key) || columns.keys.length < MOST_FAINT ? 0.9 : 0.5;
      ctx.beginPath();
      ctx.arc(place[0], place[1], run === under ? 7 : drawn.has(key) ? 5 : 3.5, 0, 2 * Math.PI);
      ctx.fill();
    });
    ctx.globalAlpha = 1;
  });
  const moved = (event: PointerEvent): void => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best: number | null = null;
    let distance = NEAR;
    places(box.width).forEach((place, run) => {
      const away = place ? Math.hypot(place[0] - x, place[1] - y) : Infinity;
      if (away < distance) [best, distance] = [run, away];
    });
    setUnder(best);
  };
  return (
    <div class="plotted">
      <canvas ref={canvas} class="many" role="img" onPointerMove={moved} onPointerLeave={() => setUnder(null)}
        aria-label={`${names[1]} against ${names[0]} of ${columns.keys.length - missing} runs. The table has the same values.`}
        onClick={() => under !== null && open(columns.keys[under] as string)} />
      <p class="under">
        {under !== null ? said(columns, names, under) : "Click a point to open its run."}
        {missing > 0 && ` ${missing} ${missing === 1 ? "run has" : "runs have"} no finite value of both.`}
      </p>
    </div>
  );
}

function said(columns: Columns, names: string[], run: number): string {
  return `${columns.ids[run]}: ${names.map((name, at) => `${name} ${cell(columns.columns[at]?.[run], name) || "none"}`).join(", ")}`;
}

/** Draw when something has changed, and when the size has. */
function useSketch(canvas: { current: HTMLCanvasElement | null }, draw: (ctx: CanvasRenderingContext2D, width: number) => void): void {
  const latest = useRef(draw);
  latest.current = draw;
  const sketch = (): void => {
    const place = canvas.current;
    if (!place?.clientWidth) return;
    const scale = devicePixelRatio;
    place.width = Math.round(place.clientWidth * scale);
    place.height = Math.round(HEIGHT * scale);
    const ctx = place.getContext("2d");
    ctx?.scale(scale, scale);
    if (ctx) latest.current(ctx, place.clientWidth);
  };
  useEffect(() => {
    const frame = requestAnimationFrame(sketch);
    return () => cancelAnimationFrame(frame);
  });
  useEffect(() => {
    const fit = new ResizeObserver(sketch);
    if (canvas.current) fit.observe(canvas.current);
    return () => fit.disconnect();
  }, []);
}

function axisPlaces(width: number, count: number): (axis: number) => number {
  const side = Math.min(SIDE, width / 8);
  return (axis) => (count > 1 ? side + ((width - 2 * side) * axis) / (count - 1) : width / 2);
}

/** The same as `axisPlaces`, for the style of an element. */
function axisLeft(axis: number, count: number): string {
  const side = `min(${SIDE}px, 12.5%)`;
  return count > 1 ? `calc(${side} + (100% - 2 * ${side}) * ${axis / (count - 1)})` : "50%";
}

function height(share: number | null): number {
  return share === null ? HEIGHT - 12 : HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);
}

function drawAxis(ctx: CanvasRenderingContext2D, scale: Scale, places: (axis: number) => number, axis: number, count: number,
  span?: [number, number]): void {
  const x = places(axis);
  const gap = count > 1 ? places(1) - places(0) : 2 * SIDE;
  const isLast = count > 1 && axis === count - 1;
  const room = isLast ? places(0) - 7 : gap - 10; // as wide a margin as before the first
  ctx.font = FONT;
  ctx.strokeStyle = inks().quiet;
  ctx.lineWidth = 1;
  ctx.strokeRect(x, TOP, 0, HEIGHT - BOTTOM - TOP);
  if (span) {
    ctx.fillStyle = "#0072b255";
    ctx.fillRect(x - 6, height(span[1]), 12, height(span[0]) - height(span[1]));
  }
  ctx.textAlign = axis === 0 ? "left" : isLast ? "right" : "center";
  ctx.textBaseline = "top";
  label(ctx, shortened(ctx, `${scale.name}${scale.isLog ? " (log)" : ""}`, Math.min(gap - 4, 130)), axis === 0 ? Math.max(x - 40, 2) : isLast ? x + 40 : x, 4);
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  for (const tick of spaced(scale.ticks, 15 / (HEIGHT - BOTTOM - TOP))) label(ctx, shortened(ctx, tick.label, Math.min(room, 90)), x + 5, height(tick.at));
  label(ctx, shortened(ctx, "none", room), x + 5, height(null));
}

/** Text with a little of the background around it: lines go through behind. */
function label(ctx: CanvasRenderingContext2D, text: string, x: number, y: number): void {
  ctx.strokeStyle = inks().back;
  ctx.lineWidth = 3;
  ctx.lineJoin = "round";
  ctx.strokeText(text, x, y);
  ctx.fillStyle = inks().text;
  ctx.fillText(text, x, y);
}

function shortened(ctx: CanvasRenderingContext2D, text: string, most: number): string {
  let shown = text.slice(0, 60);
  while (shown.length > 3 && ctx.measureText(shown).width > most) shown = `${shown.slice(0, -2).trimEnd()}…`;
  return shown;
}

function spaced<T extends { at: number }>(ticks: T[], room: number): T[] {
  const kept: T[] = [];
  for (const tick of ticks) if (!kept.length || tick.at - (kept.at(-1) as T).at >= room) kept.push(tick);
  return kept;
}

