// Where rows and the heads of groups stand in a table of which only a part exists.

import type { TableGroup } from "./source";

export type Item = { group: number } | { row: number };

export interface Layout {
  /** Rows and heads together. */
  length: number;
  at(place: number): Item;
}

/** Rows one under another, each group with a head; of a closed one only that. */
export function layout(rows: number, groups: TableGroup[], isClosed: (group: TableGroup) => boolean): Layout {
  if (!groups.length) return { length: rows, at: (place) => ({ row: place }) };
  const heads: number[] = [];
  const firsts: number[] = [];
  let [place, row] = [0, 0];
  for (const group of groups) {
    heads.push(place);
    firsts.push(row);
    place += 1 + (isClosed(group) ? 0 : group.count);
    row += group.count;
  }
  return {
    length: place + (rows - row), // groups beyond the last that is answered have no head
    at: (wanted) => {
      if (wanted >= place) return { row: row + wanted - place };
      let [low, high] = [0, heads.length - 1];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if ((heads[middle] as number) <= wanted) low = middle;
        else high = middle - 1;
      }
      const inside = wanted - (heads[low] as number);
      return inside === 0 ? { group: low } : { row: (firsts[low] as number) + inside - 1 };
    },
  };
}
