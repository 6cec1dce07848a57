// Okabe and Ito's colours, which the colour-blind tell apart; after eight, lines are dashed.

export const isDark = matchMedia("(prefers-color-scheme: dark)");

const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b3a500"];
const DASHES: number[][] = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4]];

export interface Line {
  colour: string;
  dash: number[];
}

export function line(number: number): Line {
  const hues = [...HUES, isDark.matches ? "#e8e8e8" : "#111111"];
  const colour = hues[number % hues.length] as string;
  return { colour, dash: DASHES[Math.floor(number / hues.length) % DASHES.length] as number[] };
}
