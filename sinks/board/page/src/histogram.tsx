// Histograms: one as bars; many over steps one behind the other, or as a map of densities.

import { useEffect, useRef } from "preact/hooks";
import { inks } from "./colours";
import { number } from "./format";
import { largest } from "./numbers";
import { along } from "./palette";
import type { Histogram } from "./source";
import type { HistogramView } from "./state";

const HEIGHT = 190;
const FOOT = 18; // for the numbers of the axis
const LEFT = 46;
const ROWS = 64; // of a map
const RIDGES = 24;
const MOST_BINS = 1000; // more are narrower than a pixel
const FONT = "11px system-ui, sans-serif";

type Range = [number, number];

export function HistogramChart({ histograms, view, at, colour, name }: {
  histograms: Histogram[];
  view: HistogramView;
  /** The step that is looked at. */
  at: number;
  colour: string;
  name: string;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const sound = histograms.filter((each) => each.counts.length).map(coarser);
  const current = sound.filter((each) => each.step <= at).at(-1) ?? sound[0];
  useEffect(() => {
    const place = canvas.current;
    if (!place || !current) return undefined;
    const draw = (): void => {
      const ctx = prepared(place);
      if (!ctx) return;
      const range = rangeOf(view === "bars" ? [current] : sound);
      if (view === "bars") bars(ctx, current, range, colour);
      else if (view === "ridge") ridge(ctx, sound, current, range, colour);
      else map(ctx, sound, current, range);
    };
    draw();
    const fit = new ResizeObserver(draw);
    fit.observe(place);
    return () => fit.disconnect();
  });
  if (!current) return <p class="empty">{histograms[0]?.problem || "no histogram yet"}</p>;
  const odd = histograms.length - sound.length;
  return (
    <>
      <canvas ref={canvas} class="histogram" role="img" aria-label={described(name, current, sound)} />
      {odd > 0 && <p class="wrong">{odd} cannot be shown: {histograms.find((each) => each.problem)?.problem}</p>}
    </>
  );
}

function described(name: string, current: Histogram, all: Histogram[]): string {
  const most = current.counts.indexOf(largest(current.counts));
  const [low, high] = [current.edges[0] as number, current.edges.at(-1) as number];
  return `${name} at step ${current.step}: values from ${number(low)} to ${number(high)}, most from ` +
    `${number(current.edges[most] as number)} to ${number(current.edges[most + 1] as number)}; ${all.length} steps`;
}

function prepared(canvas: HTMLCanvasElement): CanvasRenderingContext2D | null {
  const scale = devicePixelRatio;
  const width = canvas.clientWidth;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(HEIGHT * scale);
  const ctx = canvas.getContext("2d");
  ctx?.scale(scale, scale);
  if (ctx) ctx.font = FONT;
  return ctx;
}

const coarse = new WeakMap<Histogram, Histogram>();

/** With neighbours of too many bins put together. */
function coarser(one: Histogram): Histogram {
  const before = coarse.get(one);
  if (before) return before;
  const { edges, counts } = one;
  const many = Math.ceil(counts.length / MOST_BINS);
  if (many <= 1) return one;
  const sums = new Array<number>(Math.ceil(counts.length / many)).fill(0);
  counts.forEach((count, bin) => {
    const place = Math.floor(bin / many);
    sums[place] = (sums[place] as number) + count;
  });
  const left = edges.filter((_, place) => place % many === 0 && place < counts.length);
  const found = { ...one, edges: [...left, edges.at(-1) as number], counts: sums };
  coarse.set(one, found);
  return found;
}

function rangeOf(histograms: Histogram[]): Range {
  let [low, high] = [Infinity, -Infinity];
  for (const { edges } of histograms) {
    low = Math.min(low, edges[0] as number);
    high = Math.max(high, edges.at(-1) as number);
  }
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}

/** Counts by width: what bins of different widths have in common. */
function densities({ edges, counts }: Histogram): number[] {
  const total = counts.reduce((sum, count) => sum + count, 0) || 1;
  const whole = ((edges.at(-1) as number) - (edges[0] as number)) || 1;
  return counts.map((count, bin) => {
    const width = (edges[bin + 1] as number) - (edges[bin] as number);
    return count / total / (width > 0 ? width : whole / counts.length);
  });
}

function axis(ctx: CanvasRenderingContext2D, [low, high]: Range, left: number, right: number, y: number): void {
  ctx.fillStyle = inks().quiet;
  ctx.textBaseline = "top";
  ([[low, left, "left"], [(low + high) / 2, (left + right) / 2, "center"], [high, right, "right"]] as
    [number, number, CanvasTextAlign][]).forEach(([value, x, align]) => {
    ctx.textAlign = align;
    ctx.fillText(number(Number(value.toPrecision(3))), x, y);
  });
}

function bars(ctx: CanvasRenderingContext2D, one: Histogram, range: Range, colour: string): void {
  const width = ctx.canvas.width / devicePixelRatio;
  const [bottom, high] = [HEIGHT - FOOT, densities(one)];
  const most = largest(high) || 1;
  const x = (value: number): number => 4 + ((value - range[0]) / (range[1] - range[0])) * (width - 8);
  ctx.fillStyle = colour;
  high.forEach((density, bin) => {
    const [from, to] = [x(one.edges[bin] as number), x(one.edges[bin + 1] as number)];
    const size = (density / most) * (bottom - 8);
    ctx.fillRect(from, bottom - size, Math.max(to - from - 0.5, 0.75), size);
  });
  axis(ctx, range, 4, width - 4, bottom + 4);
}

/** The oldest at the back, the newest in front. */
function ridge(ctx: CanvasRenderingContext2D, all: Histogram[], current: Histogram, range: Range, colour: string): void {
  const width = ctx.canvas.width / devicePixelRatio;
  const count = Math.min(all.length, RIDGES);
  const chosen = Array.from({ length: count }, (_, at) =>
    all[Math.round((at * (all.length - 1)) / Math.max(count - 1, 1))] as Histogram);
  if (!chosen.includes(current)) chosen[nearest(chosen, current)] = current;
  const most = largest(chosen.map((each) => largest(densities(each)))) || 1;
  const room = (HEIGHT - FOOT - 8) * 0.45; // of the highest
  const [first, last] = [8 + room, HEIGHT - FOOT - 2];
  const x = (value: number): number => 4 + ((value - range[0]) / (range[1] - range[0])) * (width - LEFT - 8);
  const { back } = inks();
  chosen.forEach((each, at) => {
    const base = count > 1 ? first + ((last - first) * at) / (count - 1) : last;
    const shape = new Path2D();
    shape.moveTo(x(each.edges[0] as number), base);
    densities(each).forEach((density, bin) => {
      const middle = ((each.edges[bin] as number) + (each.edges[bin + 1] as number)) / 2;
      shape.lineTo(x(middle), base - (density / most) * room);
    });
    shape.lineTo(x(each.edges.at(-1) as number), base);
    const isCurrent = each === current;
    ctx.fillStyle = back;
    ctx.fill(shape);
    ctx.fillStyle = isCurrent ? `${colour}99` : `${colour}30`;
    ctx.fill(shape);
    ctx.lineJoin = "round";
    ctx.strokeStyle = isCurrent ? colour : `${colour}90`;
    ctx.lineWidth = isCurrent ? 2 : 1;
    ctx.stroke(shape);
    if (isCurrent || at === 0 || at === count - 1) {
      ctx.fillStyle = inks().quiet;
      ctx.textAlign = "right";
      ctx.textBaseline = "bottom";
      if (isCurrent || Math.abs(chosen.indexOf(current) - at) * (last - first) > 14 * count) {
        ctx.fillText(number(each.step), width - 2, base + 2);
      }
    }
  });
  axis(ctx, range, 4, width - LEFT, HEIGHT - FOOT + 5);
}

function nearest(chosen: Histogram[], current: Histogram): number {
  let best = 0;
  chosen.forEach((each, at) => {
    if (Math.abs(each.step - current.step) < Math.abs((chosen[best] as Histogram).step - current.step)) best = at;
  });
  return best;
}

/** Steps from left to right, values from the foot up, denser where more values are. */
function map(ctx: CanvasRenderingContext2D, all: Histogram[], current: Histogram, range: Range): void {
  const width = ctx.canvas.width / devicePixelRatio;
  const [top, bottom, right] = [4, HEIGHT - FOOT, width - 4];
  const columns = all.map((each) => onGrid(each, range));
  const most = largest(columns.map(largest)) || 1;
  const wide = (right - LEFT) / columns.length;
  const tall = (bottom - top) / ROWS;
  columns.forEach((column, at) => column.forEach((density, row) => {
    if (!density) return;
    ctx.fillStyle = along(0.05 + 0.95 * Math.sqrt(density / most));
    ctx.fillRect(LEFT + at * wide, bottom - (row + 1) * tall, wide + 0.4, tall + 0.4);
  }));
  const here = LEFT + (all.indexOf(current) + 0.5) * wide;
  ctx.strokeStyle = inks().quiet;
  ctx.setLineDash([3, 3]);
  ctx.strokeRect(here, top, 0, bottom - top);
  ctx.setLineDash([]);
  axis(ctx, [(all[0] as Histogram).step, (all.at(-1) as Histogram).step], LEFT, right, bottom + 4);
  ctx.textAlign = "right";
  ctx.textBaseline = "top";
  ctx.fillText(number(Number(range[1].toPrecision(3))), LEFT - 4, top);
  ctx.textBaseline = "bottom";
  ctx.fillText(number(Number(range[0].toPrecision(3))), LEFT - 4, bottom);
}

/** The density in each row of the map: of every bin what lies in it. */
function onGrid(one: Histogram, [low, high]: Range): number[] {
  const grid = new Array<number>(ROWS).fill(0);
  const tall = (high - low) / ROWS;
  const total = one.counts.reduce((sum, count) => sum + count, 0) || 1;
  one.counts.forEach((count, bin) => {
    if (!count) return;
    const [from, to] = [one.edges[bin] as number, one.edges[bin + 1] as number];
    const [first, last] = [Math.floor((from - low) / tall), Math.ceil((to - low) / tall)];
    for (let row = Math.max(first, 0); row < Math.min(Math.max(last, first + 1), ROWS); row += 1) {
      const inside = Math.min(to, low + (row + 1) * tall) - Math.max(from, low + row * tall);
      grid[row] = (grid[row] as number) + (count / total) * (to > from ? Math.max(inside, 0) / (to - from) : 1);
    }
  });
  return grid;
}
