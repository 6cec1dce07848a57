// Questions that are asked again when there may be something new, however long the answers take.

import { useEffect, useRef, useState } from "preact/hooks";

export interface Asked<Answer> {
  /** The last answer to this question; null until it has come. */
  answer: Answer | null;
  /** The last answer, which may be to the question before. */
  latest: Answer | null;
  /** Why the last time failed; empty if it did not. */
  problem: string;
}

interface Pace<Answer> {
  /** From an answer until it is asked again, if the version has changed. */
  everyMs?: number;
  /** Until an answer that is not whole yet is asked for again. */
  againMs?: number;
  isWhole?: (answer: Answer) => boolean;
}

/**
 * Ask a question, null for none, at once and again as its version changes. One is on its way at a time, and
 * its answer is shown though the version has changed since; it is dropped only if the question itself has.
 */
export function useAsked<Answer>(question: string | null, version: string | number, ask: () => Promise<Answer>,
  pace: Pace<Answer> = {}): Asked<Answer> {
  const [said, setSaid] = useState<{ of: string | null; answer: Answer | null }>({ of: null, answer: null });
  const [failed, setFailed] = useState<{ of: string | null; problem: string }>({ of: null, problem: "" });
  const now = useRef({ version, ask, pace });
  now.current = { version, ask, pace };
  const askOn = useRef(() => {});
  useEffect(() => {
    if (question === null) {
      setSaid({ of: null, answer: null });
      return undefined;
    }
    let isOver = false;
    let isAsking = false;
    let isPartly = true;
    let asOf: string | number = "";
    let notBefore = 0;
    let timer = 0;
    const once = async (): Promise<void> => {
      isAsking = true;
      isPartly = false;
      asOf = now.current.version;
      try {
        const answer = await now.current.ask();
        if (isOver) return;
        isPartly = !(now.current.pace.isWhole?.(answer) ?? true);
        setSaid({ of: question, answer });
        setFailed({ of: question, problem: "" });
      } catch (error) {
        if (isOver) return;
        setFailed({ of: question, problem: (error as Error).message });
      }
      const { everyMs = 0, againMs = everyMs } = now.current.pace;
      notBefore = performance.now() + (isPartly ? againMs : everyMs);
      isAsking = false;
      askOn.current();
    };
    askOn.current = () => {
      if (isOver || isAsking || (!isPartly && asOf === now.current.version)) return;
      clearTimeout(timer);
      timer = window.setTimeout(() => void once(), Math.max(0, notBefore - performance.now()));
    };
    void once();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [question]);
  useEffect(() => askOn.current(), [version]);
  const isOfIt = question !== null && said.of === question;
  return {
    answer: isOfIt ? said.answer : null,
    latest: question === null ? null : said.answer,
    problem: failed.of === question ? failed.problem : "",
  };
}
