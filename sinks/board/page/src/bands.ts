// Mean and range of several curves of a file, which has no server to ask.

const PLACES = 300;

export interface Points {
  x: Float64Array;
  y: Float64Array;
}

/** Between its values a curve goes straight; before the first and behind the last it does not count. */
export function band(curves: Points[]): { x: Float64Array; mean: Float64Array; low: Float64Array; high: Float64Array } {
  const clean = curves.map(finite).filter((curve) => curve.x.length);
  let places = [...new Set(clean.flatMap((curve) => curve.x))].sort((one, other) => one - other);
  if (places.length > PLACES) {
    const [first, last] = [places[0] as number, places[places.length - 1] as number];
    places = Array.from({ length: PLACES }, (_, at) => first + ((last - first) * at) / (PLACES - 1));
  }
  const x: number[] = [];
  const mean: number[] = [];
  const low: number[] = [];
  const high: number[] = [];
  const next = clean.map(() => 0);
  for (const place of places) {
    let [count, sum, least, most] = [0, 0, Infinity, -Infinity];
    clean.forEach((curve, number) => {
      const { x: its, y } = curve;
      let at = next[number] as number;
      while (at < its.length - 1 && (its[at + 1] as number) <= place) at += 1;
      next[number] = at;
      const [from, to] = [its[at] as number, its[at + 1]];
      if (place < from || (to === undefined && place > from)) return;
      const share = to === undefined || to === from ? 0 : (place - from) / (to - from);
      const [before, after] = [y[at] as number, y[at + 1] ?? 0];
      const value = share ? before + share * (after - before) : before;
      count += 1;
      sum += value;
      least = Math.min(least, value);
      most = Math.max(most, value);
    });
    if (!count) continue;
    x.push(place);
    mean.push(sum / count);
    low.push(least);
    high.push(most);
  }
  return {
    x: Float64Array.from(x), mean: Float64Array.from(mean), low: Float64Array.from(low), high: Float64Array.from(high),
  };
}

function finite({ x, y }: Points): { x: number[]; y: number[] } {
  const found: { x: number[]; y: number[] } = { x: [], y: [] };
  let furthest = -Infinity;
  x.forEach((at, place) => {
    const value = y[place] as number;
    if (!Number.isFinite(value)) return;
    furthest = Math.max(furthest, at);
    found.x.push(furthest);
    found.y.push(value);
  });
  return found;
}
