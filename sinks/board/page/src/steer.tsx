// Steers a run that goes on: what is asked of it, and what it answers.

import { useEffect, useState } from "preact/hooks";
import { number } from "./format";
import type { Offer, Problem, Source, SteerAnswer, Wish } from "./source";

const REFRESH_MS = 5000;

export function Steer({ source, open }: { source: Source; open: string }) {
  const [offer, setOffer] = useState<Offer | null | undefined>(undefined);
  const [answer, setAnswer] = useState<SteerAnswer | null>(null);
  const [said, setSaid] = useState("");
  const [asked, setAsked] = useState("");
  const [isStopping, setStopping] = useState(false);
  useEffect(() => {
    let isOver = false;
    let timer = 0;
    // What is offered is asked for each time: a board that was started again has another token.
    const look = async (): Promise<void> => {
      try {
        const found = await source.offer();
        if (isOver) return;
        setOffer(found);
        const now = found && (await source.steer(open, { verb: "status" }, found.token));
        if (!isOver) setAnswer(now);
      } catch {
        if (!isOver) setAnswer(null); // it has ended, or is about to; asking for more says which
      }
      if (!isOver) timer = window.setTimeout(look, REFRESH_MS);
    };
    setAnswer(null);
    setSaid("");
    setStopping(false);
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [open]);
  if (offer === undefined) return null;
  if (offer === null) {
    return <p class="note">This board only reads: <code>nightbus board --steer</code> lets you stop, pause, validate and save here.</p>;
  }

  const steered = async (wish: Wish): Promise<SteerAnswer> => {
    try {
      return await source.steer(open, wish, offer.token);
    } catch (error) {
      const now = (error as Problem).status === 403 ? await source.offer() : null;
      if (!now || now.token === offer.token) throw error;
      setOffer(now);
      return source.steer(open, wish, now.token);
    }
  };
  const ask = (wish: Wish): void => {
    const what = wish.command || wish.verb || "";
    setAsked(what);
    setSaid("");
    setStopping(false);
    steered(wish).then(
      (found) => {
        setAnswer(found);
        setSaid(`${what}: ${found.said || "done"}`);
      },
      (error: Error) => setSaid(`${what}: ${error.message}`),
    ).finally(() => setAsked(""));
  };
  const status = answer?.status;
  const verbs = offer.verbs.filter((verb) => verb !== (status?.paused ? "pause" : "resume"));
  return (
    <section class="steer" aria-label="steer this run">
      <div class="tools">
        {verbs.map((verb) => (
          <button key={verb} disabled={asked !== ""} aria-expanded={verb === "stop" ? isStopping : undefined}
            onClick={() => (verb === "stop" ? setStopping(!isStopping) : ask({ verb }))}>{verb}</button>
        ))}
        {status && (
          <span class="quiet">
            {status.paused ? "paused" : status.stopping ? "stopping" : "running"}, epoch {number(status.epoch)}, step {number(status.step)}
          </span>
        )}
      </div>
      {isStopping && <Stop ask={ask} />}
      <OwnCommand ask={ask} isBusy={asked !== ""} />
      <p class="answer" role="status">{asked ? `${asked}: asked …` : said}</p>
    </section>
  );
}

function Stop({ ask }: { ask: (wish: Wish) => void }) {
  const [reason, setReason] = useState("");
  return (
    <form class="tools" onSubmit={(event) => { event.preventDefault(); ask({ verb: "stop", reason }); }}>
      <label>why <input value={reason} maxLength={1000} onInput={(event) => setReason(event.currentTarget.value)} placeholder="for the log; may be empty" /></label>
      <button type="submit">end the run after its step</button>
    </form>
  );
}

function OwnCommand({ ask, isBusy }: { ask: (wish: Wish) => void; isBusy: boolean }) {
  const [command, setCommand] = useState("");
  const [to, setTo] = useState("");
  const [fields, setFields] = useState("");
  const [problem, setProblem] = useState("");
  const send = (event: Event): void => {
    event.preventDefault();
    try {
      const given: unknown = JSON.parse(fields || "{}");
      if (typeof given !== "object" || given === null || Array.isArray(given)) throw new Error();
      setProblem("");
      ask({ command, to, fields: given as Record<string, unknown> });
    } catch {
      setProblem('the fields are not a JSON object such as {"rate": 0.1}');
    }
  };
  return (
    <details>
      <summary>a command of your own</summary>
      <form class="tools" onSubmit={send}>
        <label>command <input required value={command} onInput={(event) => setCommand(event.currentTarget.value)} placeholder="myteam.SetRate" /></label>
        <label>to <input value={to} onInput={(event) => setTo(event.currentTarget.value)} placeholder="the run itself" /></label>
        <label>fields <input value={fields} onInput={(event) => setFields(event.currentTarget.value)} placeholder='{"rate": 0.1}' /></label>
        <button type="submit" disabled={isBusy}>send</button>
      </form>
      {problem && <p class="wrong" role="alert">{problem}</p>}
    </details>
  );
}
