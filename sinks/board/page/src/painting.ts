// Which line each run has, and which group: by the values of the names that were chosen for that.

import { useMemo, useRef } from "preact/hooks";
import { useAsked } from "./asked";
import { isDark, type Line, line } from "./colours";
import { cell } from "./format";
import { inOrder } from "./order";
import { type Palette, palette } from "./palette";
import type { Cell, Columns, Source } from "./source";
import type { State } from "./state";

const REFRESH_MS = 2000;
export const MOST_DRAWN = 50; // runs, whose curves can still be told apart

export interface Group {
  id: string;
  label: string;
  keys: string[];
  line: Line;
}

export interface Painting {
  /** Of each run that is drawn, and of each that a value colours. */
  line(key: string): Line;
  palette: Palette | null;
  groups: Group[] | null;
  /** Runs that have the value of a group, the newest first. */
  members(value: Cell): string[];
}

/** The values that runs have of the chosen names, asked for again as runs come and go; and why there are none. */
export function useColumns(source: Source, names: string[], where: string, keys: string[], told: number): [Columns | null, string] {
  const of = JSON.stringify(names);
  const { latest, problem } = useAsked(names.length ? JSON.stringify([names, where, keys]) : null, told,
    async () => ({ of, columns: await source.columns(names, where, keys) }), { everyMs: REFRESH_MS });
  // Of other runs they are shown until the answer is there; of other names they say something else.
  return [latest?.of === of ? latest.columns : null, problem];
}

export function usePainting(columns: Columns | null, state: State, keys: string[]): Painting {
  const byOrder = useOrder(keys);
  const dark = isDark.matches;
  return useMemo(() => {
    const at = new Map(columns?.keys.map((key, place) => [key, place]));
    const names = namesOf(state);
    const values = (name: string): Cell[] | null => (name && columns?.columns[names.indexOf(name)]) || null;
    const [colouring, grouping] = [values(state.colour), values(state.group)];
    const colours = colouring && palette(state.colour, colouring);
    const ofRun = (key: string): Line => {
      const place = at.get(key);
      if (colours && colouring) return colours.of(place === undefined ? null : colouring[place]);
      return line(byOrder[key] ?? 0);
    };
    const members = (value: Cell): string[] => {
      const wanted = JSON.stringify(value);
      return (columns?.keys ?? []).filter((_, place) => JSON.stringify(grouping?.[place]) === wanted);
    };
    let groups: Group[] | null = null;
    if (grouping) {
      // By the values themselves, as the table does: some that differ look alike.
      const found = new Map<string, { value: Cell; its: string[] }>();
      for (const key of keys) {
        const place = at.get(key);
        const value = place === undefined ? null : (grouping[place] ?? null);
        const id = idOfGroup(value);
        found.set(id, { value, its: [...(found.get(id)?.its ?? []), key] });
      }
      const sorted = [...found].sort(([, one], [, other]) => inOrder(one.value, other.value));
      // In the colours of their runs, if those of each have one: else colours of both kinds would mix.
      const areOne = colours !== null && sorted.every(([, { its }]) => new Set(its.map((key) => ofRun(key).colour)).size === 1);
      groups = sorted.map(([id, { value, its }], number) => (
        { id, label: value === null ? "none" : cell(value, state.group), keys: its, line: areOne ? ofRun(its[0] as string) : line(number) }
      ));
    }
    return { line: ofRun, palette: colours, groups, members };
  }, [columns, state.colour, state.group, keys.join(), dark]);
}

export function idOfGroup(value: Cell): string {
  return `group ${JSON.stringify(value)}`;
}

export function namesOf(state: State): string[] {
  return [...new Set([state.colour, state.group].filter(Boolean))];
}

/** A run keeps its number for as long as it is drawn, whatever becomes of the others. */
function useOrder(keys: string[]): Record<string, number> {
  const order = useRef<Record<string, number>>({});
  const now = Object.fromEntries(Object.entries(order.current).filter(([key]) => keys.includes(key)));
  for (const key of keys) {
    if (now[key] !== undefined) continue;
    const taken = new Set(Object.values(now));
    let free = 0;
    while (taken.has(free)) free += 1;
    now[key] = free;
  }
  order.current = now;
  return now;
}
