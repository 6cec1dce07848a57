// Curves as they are painted: put in order once, when they come, and painted as often as the view moves.

import type { Line } from "./colours";
import type { Curve } from "./source";

// A line that goes up and down more than this, in widths of its chart, is as thin as a pixel and has no
// dashes: they could not be told apart, and wider lines take forty times as long to paint.
const DENSE = 6;

// Outliers: a few of the values, without which the others have several times the room.
const FEW = 0.03;
const FAR = 2.5;
const MOST_SORTED = 5000;

/** A curve in the order of its axis. */
export interface Ordered {
  curve: Curve;
  x: Float64Array;
  y: Float64Array;
  low: Float64Array | null;
  high: Float64Array | null;
  /** The places of values that are not finite. */
  odd: number[];
}

export interface Shown {
  ordered: Ordered;
  line: Line;
  /** The values behind their means are pale. */
  isFaint: boolean;
}

/** Where values stand in a picture, in its pixels. */
export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
  x: [number, number];
  y: [number, number];
  isLog: boolean;
}

export type Span = [number, number];

export function ordered(curve: Curve): Ordered {
  const { x, y, range } = curve;
  const odd: number[] = [];
  let isAscending = true;
  for (let at = 0; at < x.length; at += 1) {
    if (at > 0 && (x[at] as number) < (x[at - 1] as number)) isAscending = false;
    if (!Number.isFinite(y[at])) odd.push(at);
  }
  const found = { curve, x, y, low: range?.low ?? null, high: range?.high ?? null, odd };
  if (isAscending) return found;
  const places = Array.from(x.keys()).sort((one, other) => (x[one] as number) - (x[other] as number));
  const inOrder = (values: Float64Array): Float64Array => Float64Array.from(places, (at) => values[at] as number);
  const sorted = inOrder(y);
  return {
    curve, x: inOrder(x), y: sorted, low: range ? inOrder(range.low) : null, high: range ? inOrder(range.high) : null,
    odd: [...sorted.keys()].filter((at) => !Number.isFinite(sorted[at])),
  };
}

/** From where to where curves go along the axis; null if they have no points. */
export function extent(all: Ordered[]): Span | null {
  let [low, high] = [Infinity, -Infinity];
  for (const { x } of all) {
    if (!x.length) continue;
    low = Math.min(low, x[0] as number);
    high = Math.max(high, x[x.length - 1] as number);
  }
  if (low > high) return null;
  return low === high ? [low - 1, high + 1] : [low, high];
}

/**
 * The lowest and the highest value that can be drawn in a part of the axis; null if there is none. Trimmed,
 * they are those of all but a few, if these are far from the others.
 */
export function heights(all: Ordered[], [from, to]: Span, isLog: boolean, isTrimmed: boolean): Span | null {
  let [least, most] = [Infinity, -Infinity];
  const drawn: number[] = [];
  for (const { x, y, low, high } of all) {
    let [first, last] = part(x, from, to);
    // Those on either side count where there is none within.
    const [isBefore, isBehind] = [(x[first] as number) < from, (x[last] as number) > to];
    if (last - first >= Number(isBefore) + Number(isBehind)) [first, last] = [first + Number(isBefore), last - Number(isBehind)];
    for (const values of low && high ? [low, high] : [y]) {
      for (let at = first; at <= last; at += 1) {
        const value = values[at] as number;
        if (!drawable(value, isLog)) continue;
        if (value < least) least = value;
        if (value > most) most = value;
        if (isTrimmed) drawn.push(value);
      }
    }
  }
  if (least > most) return null;
  return isTrimmed ? trimmed(drawn, [least, most], isLog) : [least, most];
}

function trimmed(values: number[], [least, most]: Span, isLog: boolean): Span {
  const every = Math.ceil(values.length / MOST_SORTED);
  const sorted = Float64Array.from(values.filter((_, place) => place % every === 0)).sort();
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))] as number;
  const [low, high] = [at(FEW), at(1 - FEW)];
  const width = (one: number, other: number): number => (isLog ? Math.log10(other) - Math.log10(one) : other - one);
  return width(low, high) > 0 && width(low, high) < width(least, most) / FAR ? [low, high] : [least, most];
}

/** The places of values that are drawn beyond the edges, of those next to one another the first. */
export function beyond({ x, y }: Ordered, [from, to]: Span, [least, most]: Span, isLog: boolean): number[] {
  const found: number[] = [];
  let wasBeyond = false;
  for (let at = 0; at < x.length; at += 1) {
    const value = y[at] as number;
    const isBeyond = (x[at] as number) >= from && (x[at] as number) <= to && drawable(value, isLog) && (value < least || value > most);
    if (isBeyond && !wasBeyond) found.push(at);
    wasBeyond = isBeyond;
  }
  return found;
}

/** Paint a curve, and the range around it if it has one. */
export function paint(context: CanvasRenderingContext2D, frame: Frame, { ordered: its, line, isFaint }: Shown): void {
  const [first, last] = part(its.x, ...frame.x);
  const along = scaled(frame.x, frame.left, frame.width, false, false);
  const up = scaled(frame.y, frame.top, frame.height, frame.isLog, true);
  context.strokeStyle = isFaint ? `${line.colour}40` : line.colour;
  context.lineJoin = "bevel";
  if (its.low && its.high) {
    context.fillStyle = `${line.colour}2e`;
    paintRange(context, its.x, its.low, its.high, first, last, along, up, frame.isLog);
  }
  context.beginPath();
  let [isDown, length, lastX, lastY] = [false, 0, 0, 0];
  for (let at = first; at <= last; at += 1) {
    const value = its.y[at] as number;
    if (!drawable(value, frame.isLog)) {
      isDown = false;
      continue;
    }
    const [x, y] = [along(its.x[at] as number), up(value)];
    if (isDown) {
      context.lineTo(x, y);
      length += Math.abs(x - lastX) + Math.abs(y - lastY);
    } else {
      context.moveTo(x, y);
      // A value by itself, without a line to another, is a point.
      if (at === last || !drawable(its.y[at + 1] as number, frame.isLog)) dot(context, x, y);
    }
    [isDown, lastX, lastY] = [true, x, y];
  }
  const isDense = length > DENSE * frame.width;
  context.lineWidth = isDense ? 1 : (isFaint ? 1 : 1.5) * devicePixelRatio;
  context.setLineDash(isDense || isFaint ? [] : line.dash.map((each) => each * devicePixelRatio));
  context.stroke();
}

function paintRange(
  context: CanvasRenderingContext2D, x: Float64Array, low: Float64Array, high: Float64Array, first: number, last: number,
  along: (value: number) => number, up: (value: number) => number, isLog: boolean,
): void {
  const isThere = (at: number): boolean => drawable(low[at] as number, isLog) && drawable(high[at] as number, isLog);
  for (let from = first; from <= last; from += 1) {
    if (!isThere(from)) continue;
    let to = from;
    while (to < last && isThere(to + 1)) to += 1;
    context.beginPath();
    for (let at = from; at <= to; at += 1) context.lineTo(along(x[at] as number), up(high[at] as number));
    for (let at = to; at >= from; at -= 1) context.lineTo(along(x[at] as number), up(low[at] as number));
    context.fill();
    from = to;
  }
}

function dot(context: CanvasRenderingContext2D, x: number, y: number): void {
  const radius = 2 * devicePixelRatio;
  context.moveTo(x + radius, y);
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.moveTo(x, y);
}

function drawable(value: number, isLog: boolean): boolean {
  return Number.isFinite(value) && (!isLog || value > 0);
}

function scaled([low, high]: Span, begin: number, length: number, isLog: boolean, isUp: boolean): (value: number) => number {
  const from = isLog ? Math.log10(low) : low;
  const per = length / ((isLog ? Math.log10(high) : high) - from || 1);
  const end = begin + length;
  if (isLog) return (value) => end - (Math.log10(value) - from) * per;
  return isUp ? (value) => end - (value - from) * per : (value) => begin + (value - from) * per;
}

/** The points of a part of the axis, and one more on either side, to which lines go. */
function part(x: Float64Array, from: number, to: number): [first: number, last: number] {
  const before = (limit: number, isIn: (value: number) => boolean): number => {
    let [low, high] = [0, limit];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isIn(x[middle] as number)) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [
    Math.max(before(x.length, (value) => value < from) - 1, 0),
    Math.min(before(x.length, (value) => value <= to), x.length - 1),
  ];
}
