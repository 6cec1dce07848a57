// The order of values of any kind, as the server sorts tables.

import type { Cell } from "./source";

/** There is none, or it is not a number. */
export function isMissing(value: Cell | undefined): boolean {
  return value === null || value === undefined || value === "NaN";
}

/** There is none, or no finite number. */
export function hasNoPlace(value: Cell | undefined): boolean {
  return isMissing(value) || value === "Infinity" || value === "-Infinity";
}

/** Numbers, then texts by their letters, then what is missing. */
export function inOrder(one: Cell | undefined, other: Cell | undefined): number {
  const [left, right] = [place(one), place(other)];
  if (left[0] !== right[0]) return left[0] - right[0];
  return left[1] < right[1] ? -1 : left[1] > right[1] ? 1 : 0;
}

function place(value: Cell | undefined): [rank: number, what: number | string] {
  if (value === null || value === undefined || value === "NaN") return [2, 0];
  if (typeof value === "number" || typeof value === "boolean") return [0, Number(value)];
  if (value === "Infinity" || value === "-Infinity") return [0, Number(value)];
  return [1, Array.isArray(value) ? value.join(", ") : value];
}
