// Where values of any kind stand along an axis.

import { cell, number } from "./format";
import { largest, smallest } from "./numbers";
import { hasNoPlace, inOrder } from "./order";
import type { Cell } from "./source";

const SPREAD = 50; // a positive range as wide as this is shown by its logarithm
const CATEGORIES = 40; // with places of their own
const TICKS = 5;
const LARGE = /^-?\d{16,}$/; // a text, or a whole number that is larger than those of a page
const WORDS = new Set(["and", "or", "not", "in", "true", "false", "none"]); // of conditions

export interface Scale {
  name: string;
  isLog: boolean;
  /** From 0 to 1; null for what is missing or not finite. */
  at(value: Cell | undefined): number | null;
  ticks: { label: string; at: number }[];
  /** A condition for the table: the values that there are from one place to another. */
  condition(from: number, to: number): string;
}

export function scaleOf(name: string, values: Cell[]): Scale {
  const there = values.filter((value) => !hasNoPlace(value));
  return there.length && there.every((value) => typeof value === "number")
    ? ofNumbers(name, there as number[]) : ofCategories(name, there);
}

function ofNumbers(name: string, values: number[]): Scale {
  const [low, high] = [smallest(values), largest(values)];
  const isLog = low > 0 && high / low >= SPREAD;
  const [from, to] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
  const value = (share: number): number => {
    const place = from + share * (to - from);
    return isLog ? Math.exp(place) : place;
  };
  const share = (each: number): number => (to > from ? ((isLog ? Math.log(each) : each) - from) / (to - from) : 0.5);
  const shown = (share: number): number => Number(value(share).toPrecision(3));
  return {
    name,
    isLog,
    at: (each) => {
      if (typeof each !== "number" || (isLog && each <= 0)) return null;
      return share(each);
    },
    ticks: to > from
      ? Array.from({ length: TICKS }, (_, at) => ({ label: number(shown(at / (TICKS - 1))), at: at / (TICKS - 1) }))
      : [{ label: number(low), at: 0.5 }],
    condition: (first, last) => {
      const inside = values.filter((each) => share(each) >= first && share(each) <= last);
      return inside.length ? `${written(name)} >= ${smallest(inside)} and ${written(name)} <= ${largest(inside)}` : "false";
    },
  };
}

function ofCategories(name: string, values: Cell[]): Scale {
  const sorted = [...values].sort(inOrder);
  const different = [...new Set(sorted.map((value) => cell(value)))];
  const shown = different.slice(0, CATEGORIES);
  const place = new Map(shown.map((label, at) => [label, shown.length > 1 ? at / (shown.length - 1) : 0.5]));
  const at = (value: Cell | undefined): number => place.get(cell(value)) ?? 1;
  return {
    name,
    isLog: false,
    at: (value) => (hasNoPlace(value) ? null : at(value)),
    ticks: shown.map((label, at) => ({
      label: at === shown.length - 1 && different.length > shown.length ? `${label} and ${different.length - shown.length} more` : label,
      at: place.get(label) ?? 0.5,
    })),
    condition: (first, last) => {
      const isInside = (value: Cell): boolean => at(value) >= first && at(value) <= last;
      const each = [...new Map(sorted.map((value) => [JSON.stringify(value), value])).values()];
      const [inside, outside] = [each.filter(isInside), each.filter((value) => !isInside(value))];
      if (!inside.length) return "false";
      // Of what is left out there may be less to say.
      return inside.length <= outside.length ? oneOf(name, inside, each)
        : `${written(name)} != none${outside.length ? ` and not ${oneOf(name, outside, each)}` : ""}`;
    },
  };
}

/** A condition: the name has one of these values, of all that there are. */
function oneOf(name: string, values: Cell[], all: Cell[]): string {
  const said = values.flatMap((value) => {
    if (Array.isArray(value)) return [sameParts(name, value, all)];
    const is = (what: string): string => `${written(name)} == ${what}`;
    return typeof value === "string" && LARGE.test(value) ? [is(literal(value)), is(value)] : [is(literal(value))];
  });
  return `(${said.join(" or ")})`;
}

/** A list has these parts, and none that only others have: conditions have no lists. */
function sameParts(name: string, parts: Cell[], all: Cell[]): string {
  const others = new Set(all.flatMap((value) => (Array.isArray(value) ? value : []).filter((part) => !parts.includes(part))));
  const has = (part: Cell): string => `${literal(part)} in ${written(name)}`;
  const said = [`${written(name)} != none`, ...parts.map(has), ...[...others].map((part) => `not ${has(part)}`)];
  return `(${said.join(" and ")})`;
}

function written(name: string): string {
  return /^[A-Za-z_][\w./]*$/.test(name) && !WORDS.has(name.toLowerCase()) ? name : `\`${name}\``;
}

function literal(value: Cell): string {
  return typeof value === "string" ? `'${value.replaceAll(/[\\']/g, "\\$&")}'` : String(value);
}
