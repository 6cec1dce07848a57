// Okabe and Ito's colours, which the colour-blind tell apart; after eight, lines are dashed.

export const isDark = matchMedia("(prefers-color-scheme: dark)");

const LIGHT = { back: "#ffffff", text: "#1c2128", quiet: "#57606a", edge: "#d8dee4" };
const DARK = { back: "#0d1117", text: "#e6edf3", quiet: "#9da7b1", edge: "#30363d" };
const HUES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b3a500"];
const DASHES: number[][] = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4]];

/** The colours of the page, as in its style sheet, for what is painted. */
export function inks(): typeof LIGHT {
  return isDark.matches ? DARK : LIGHT;
}

export interface Line {
  colour: string;
  dash: number[];
}

export function line(number: number): Line {
  const hues = [...HUES, isDark.matches ? "#e8e8e8" : "#111111"];
  const colour = hues[number % hues.length] as string;
  return { colour, dash: DASHES[Math.floor(number / hues.length) % DASHES.length] as number[] };
}
