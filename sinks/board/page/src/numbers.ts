// The ends of lists of numbers, which may be too long to be the arguments of a function.

export function largest(numbers: number[]): number {
  return numbers.reduce((one, other) => Math.max(one, other), -Infinity);
}

export function smallest(numbers: number[]): number {
  return numbers.reduce((one, other) => Math.min(one, other), Infinity);
}
