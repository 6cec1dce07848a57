// Where values of any kind stand along an axis.

import { cell, number } from "./format";
import { inOrder } from "./painting";
import type { Cell } from "./source";

const SPREAD = 50; // a positive range as wide as this is shown by its logarithm
const CATEGORIES = 40; // with places of their own
const TICKS = 5;

export interface Scale {
  name: string;
  isLog: boolean;
  /** From 0 to 1; null for what is missing or not finite. */
  at(value: Cell | undefined): number | null;
  ticks: { label: string; at: number }[];
  /** A condition for the table: the values from one place to another. */
  condition(from: number, to: number): string;
}

export function scaleOf(name: string, values: Cell[]): Scale {
  const there = values.filter((value) => !isMissing(value));
  return there.length && there.every((value) => typeof value === "number")
    ? ofNumbers(name, there as number[]) : ofCategories(name, there);
}

function isMissing(value: Cell | undefined): boolean {
  return value === null || value === undefined || value === "NaN" || value === "Infinity" || value === "-Infinity";
}

function ofNumbers(name: string, values: number[]): Scale {
  const low = values.reduce((one, other) => Math.min(one, other), Infinity);
  const high = values.reduce((one, other) => Math.max(one, other), -Infinity);
  const isLog = low > 0 && high / low >= SPREAD;
  const [from, to] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  const value = (share: number): number => {
    const place = from + share * (to - from);
    return isLog ? Math.exp(place) : place;
  };
  const shown = (share: number): number => Number(value(share).toPrecision(3));
  return {
    name,
    isLog,
    at: (each) => {
      if (typeof each !== "number" || (isLog && each <= 0)) return null;
      return to > from ? ((isLog ? Math.log(each) : each) - from) / (to - from) : 0.5;
    },
    ticks: to > from
      ? Array.from({ length: TICKS }, (_, at) => ({ label: number(shown(at / (TICKS - 1))), at: at / (TICKS - 1) }))
      : [{ label: number(low), at: 0.5 }],
    condition: (first, last) => `${written(name)} >= ${shown(first)} and ${written(name)} <= ${shown(last)}`,
  };
}

function ofCategories(name: string, values: Cell[]): Scale {
  const different = [...new Map(values.map((value) => [cell(value), value])).entries()]
    .sort(([, one], [, other]) => inOrder(one, other)).map(([label]) => label);
  const shown = different.slice(0, CATEGORIES);
  const place = new Map(shown.map((label, at) => [label, shown.length > 1 ? at / (shown.length - 1) : 0.5]));
  return {
    name,
    isLog: false,
    at: (value) => (isMissing(value) ? null : (place.get(cell(value)) ?? 1)),
    ticks: shown.map((label, at) => ({
      label: at === shown.length - 1 && different.length > shown.length ? `${label} and ${different.length - shown.length} more` : label,
      at: place.get(label) ?? 0.5,
    })),
    condition: (first, last) => {
      const inside = shown.filter((label) => (place.get(label) ?? 0) >= first && (place.get(label) ?? 0) <= last);
      const each = inside.map((label) => `${written(name)} == ${quoted(label)}`);
      return each.length > 1 ? `(${each.join(" or ")})` : (each[0] ?? "");
    },
  };
}

function written(name: string): string {
  return /^[A-Za-z_][\w./]*$/.test(name) ? name : `\`${name}\``;
}

function quoted(label: string): string {
  if (label === "true" || label === "false") return label;
  return `'${label.replaceAll("'", "\\'")}'`;
}
