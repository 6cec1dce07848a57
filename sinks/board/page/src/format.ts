// Numbers, times and sizes for people.

import type { Cell } from "./source";

export function number(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(3);
  return String(Number(value.toPrecision(5)));
}

/** With three digits, and never a power of ten. */
function three(value: number): string {
  const text = value.toPrecision(3);
  return text.includes("e") ? String(Number(text)) : text;
}

export function duration(seconds: number): string {
  if (!seconds) return "0 s";
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds >= 1) return `${three(seconds)} s`;
  if (seconds >= 1e-3) return `${three(seconds * 1e3)} ms`;
  return `${three(seconds * 1e6)} µs`;
}

export function size(bytes: number): string {
  let amount = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (amount < 1000) return unit === "B" ? `${amount} B` : `${three(amount)} ${unit}`;
    amount /= 1000;
  }
  return `${three(amount)} TB`;
}

export function moment(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (!seconds || Number.isNaN(date.getTime())) return "";
  const two = (part: number): string => String(part).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function cell(value: Cell | undefined, name = ""): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") {
    if (name === "created") return moment(value);
    if (name === "duration") return value ? duration(value) : "";
    if (name === "size") return size(value);
    return number(value);
  }
  if (Array.isArray(value)) return value.map((each) => cell(each)).join(", ");
  return String(value);
}
