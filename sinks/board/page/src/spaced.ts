// Values that change more often than anything has to be asked for.

import { useEffect, useRef, useState } from "preact/hooks";

/** A value that follows another, at most once in so many milliseconds, however often that changes. */
export function useSpaced<Value>(value: Value, everyMs: number): Value {
  const [shown, setShown] = useState(value);
  const latest = useRef(value);
  const timer = useRef(0);
  latest.current = value;
  useEffect(() => {
    if (value === shown || timer.current) return;
    timer.current = window.setTimeout(() => {
      timer.current = 0;
      setShown(latest.current);
    }, everyMs);
  }, [value, shown]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return shown;
}
