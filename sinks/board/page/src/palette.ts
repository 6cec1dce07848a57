// Colours of values: Okabe and Ito's for categories, viridis for numbers.

import { isDark, type Line, line } from "./colours";
import { cell, number } from "./format";
import { largest, smallest } from "./numbers";
import { hasNoPlace } from "./order";
import type { Cell } from "./source";

const CATEGORIES = 8; // that have colours of their own
const STEPS = 24; // of the scale in a legend
const SPREAD = 50; // a positive range as wide as this is shown by its logarithm

// Viridis at equal distances: its lightness grows evenly, and the colour-blind see that.
const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"]
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const GREY = { colour: "#8a929b", dash: [] };

export interface Palette {
  name: string;
  of(value: Cell | undefined): Line;
  /** Of categories and of few numbers: each with its colour; else the ends of a scale. */
  entries: { label: string; line: Line }[];
  scale: { low: string; high: string; isLog: boolean; colours: string[] } | null;
  /** Values that have no colour of their own. */
  others: number;
}

/** Colours for the values that a name has in the runs. */
export function palette(name: string, values: Cell[]): Palette {
  const there = values.filter((value) => !hasNoPlace(value));
  if (there.length && there.every((value) => typeof value === "number")) return ofNumbers(name, there as number[]);
  const counts = new Map<string, number>();
  for (const value of there) counts.set(cell(value), (counts.get(cell(value)) ?? 0) + 1);
  // The most frequent get colours; then by name, so that a colour stays where runs are added.
  const first = [...counts].sort((one, other) => other[1] - one[1]).slice(0, CATEGORIES).map(([label]) => label);
  first.sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
  const lines = new Map(first.map((label, at) => [label, line(at)]));
  return {
    name,
    of: (value) => lines.get(cell(value)) ?? GREY,
    entries: [...lines].map(([label, its]) => ({ label, line: its })),
    scale: null,
    others: counts.size - lines.size,
  };
}

function ofNumbers(name: string, values: number[]): Palette {
  const [low, high] = [smallest(values), largest(values)];
  const isLog = low > 0 && high / low >= SPREAD;
  const at = (value: number): number => {
    const [from, to, here] = isLog ? [Math.log(low), Math.log(high), Math.log(value)] : [low, high, value];
    return to > from ? (here - from) / (to - from) : 0.5;
  };
  const of = (value: Cell | undefined): Line =>
    typeof value === "number" && (!isLog || value > 0) ? { colour: along(at(value)), dash: [] } : GREY;
  const different = [...new Set(values)].sort((one, other) => one - other);
  const isFew = different.length <= CATEGORIES;
  return {
    name,
    of,
    entries: isFew ? different.map((value) => ({ label: number(value), line: of(value) })) : [],
    scale: isFew ? null : {
      low: number(low),
      high: number(high),
      isLog,
      colours: Array.from({ length: STEPS }, (_, step) => along(step / (STEPS - 1))),
    },
    others: 0,
  };
}

/** A place on the scale, without the end that is too near the background. */
export function along(share: number): string {
  const inside = Math.min(Math.max(share, 0), 1);
  const place = (isDark.matches ? 0.18 + 0.82 * inside : 0.82 * inside) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [one, other] = [VIRIDIS[below] as number[], VIRIDIS[below + 1] as number[]];
  const mixed = one.map((part, at) => Math.round(part + (place - below) * ((other[at] as number) - part)));
  return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
