// One image, figure, histogram, text or table, of the step that is looked at.

import { useEffect, useRef, useState } from "preact/hooks";
import { useAsked } from "./asked";
import { cell, number } from "./format";
import { HistogramChart } from "./histogram";
import type { MediaOfName, MediaPlace, Medium, Source } from "./source";
import type { HistogramView } from "./state";

const REFRESH_MS = 1000;
const MOST_KEPT = 200;
const MOST_CHARACTERS = 50e6; // of pictures that are kept

/** The number of the last at or before a step; the first if all are later. */
function itemAt(steps: number[], at: number): number {
  let found = 0;
  steps.forEach((step, place) => {
    if (step <= at) found = place;
  });
  return found;
}

// What was asked for last, for all cards, the latest at the end: moving the slider back and forth asks once.
const kept = new Map<string, Medium>();
let characters = 0;

async function medium(source: Source, run: string, place: MediaPlace): Promise<Medium> {
  const id = `${run} ${place.join()}`;
  const found = kept.get(id) ?? (await source.medium(run, place));
  drop(id);
  kept.set(id, found);
  characters += lengthOf(found);
  for (const oldest of kept.keys()) {
    if (kept.size <= MOST_KEPT && characters <= MOST_CHARACTERS) break;
    drop(oldest);
  }
  return found;
}

function drop(id: string): void {
  const dropped = kept.get(id);
  if (dropped) characters -= lengthOf(dropped);
  kept.delete(id);
}

function lengthOf(medium: Medium): number {
  return "picture" in medium ? medium.picture.length : "text" in medium ? medium.text.length : 0;
}

export function MediumCard({ source, run, its, at, view, colour }: {
  source: Source;
  run: string;
  its: MediaOfName;
  at: number;
  view: HistogramView;
  colour: string;
}) {
  const place = useRef<HTMLDivElement>(null);
  const [isSeen, setSeen] = useState(false);
  const number_ = itemAt(its.steps, at);
  useEffect(() => {
    const watcher = new IntersectionObserver(([entry]) => entry?.isIntersecting && setSeen(true), { rootMargin: "300px" });
    if (place.current) watcher.observe(place.current);
    return () => watcher.disconnect();
  }, []);
  const isMany = its.kind === "histogram" && view !== "bars";
  return (
    <div class="medium" ref={place}>
      <p class="quiet when">
        {its.steps[number_] !== undefined && <>step {number(its.steps[number_] as number)}, epoch {number(its.epochs[number_] ?? 0)}</>}
      </p>
      {!isSeen ? null : isMany
        ? <Many source={source} run={run} its={its} at={at} view={view} colour={colour} />
        : <One source={source} run={run} its={its} item={number_} at={at} colour={colour} />}
    </div>
  );
}

function Many({ source, run, its, at, view, colour }: {
  source: Source; run: string; its: MediaOfName; at: number; view: HistogramView; colour: string;
}) {
  const { answer: found, problem } = useAsked(`${run} ${its.name}`, `${its.steps.length} ${its.places.at(-1)}`, () => source.histograms(run, its.name), {
    everyMs: REFRESH_MS, isWhole: (now) => now.is_read,
  });
  if (problem) return <p class="wrong">{problem}</p>;
  if (!found) return <p class="quiet">…</p>;
  return <HistogramChart histograms={found.histograms} view={view} at={at} colour={colour} name={its.name} />;
}

function One({ source, run, its, item, at, colour }: {
  source: Source; run: string; its: MediaOfName; item: number; at: number; colour: string;
}) {
  const place = its.places[item];
  const step = its.steps[item] ?? 0;
  // Until the next is there, the one before stays: nothing jumps while the slider moves.
  const { answer, problem } = useAsked(place ? `${run} ${its.name}` : null, place?.join() ?? "", async () => (
    { step, medium: await medium(source, run, place as MediaPlace) }
  ));
  if (problem) return <p class="wrong">{problem}</p>;
  if (!answer) return <p class="quiet">…</p>;
  return <Content medium={answer.medium} its={its} at={at} step={answer.step} colour={colour} />;
}

function Content({ medium, its, at, step, colour }: { medium: Medium; its: MediaOfName; at: number; step: number; colour: string }) {
  if ("picture" in medium) return <Picture address={medium.picture} name={`${its.name} at step ${step}`} />;
  if ("text" in medium) {
    return (
      <>
        <pre class="said">{medium.text}</pre>
        {medium.length > medium.text.length && <p class="note">the first {number(medium.text.length)} of {number(medium.length)} characters</p>}
      </>
    );
  }
  if ("edges" in medium) return <HistogramChart histograms={[medium]} view="bars" at={at} colour={colour} name={its.name} />;
  const width = medium.columns.length;
  return (
    <>
      <div class="wide" tabIndex={0} role="region" aria-label={`table ${its.name}`}>
        <table>
          <thead><tr>{medium.columns.map((name, column) => <th scope="col" key={column}>{name}</th>)}</tr></thead>
          <tbody>
            {medium.rows.map((row, line) => (
              <tr key={line}>{row.slice(0, width).map((value, column) => (
                <td key={column} class={typeof value === "number" ? "number" : ""}>{cell(value)}</td>
              ))}</tr>
            ))}
          </tbody>
        </table>
      </div>
      {(medium.length > medium.rows.length || medium.width > width) && (
        <p class="note">the first {number(medium.rows.length)} of {number(medium.length)} rows and {width} of {medium.width} columns</p>
      )}
    </>
  );
}

/** A picture in its card; clicked, as large as the window. */
function Picture({ address, name }: { address: string; name: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [isSmall, setSmall] = useState(false);
  const sized = isSmall ? "pixels" : "";
  return (
    <>
      <button class="picture" aria-label={`enlarge ${name}`} onClick={() => dialog.current?.showModal()}>
        <img src={address} alt={name} class={sized}
          onLoad={(event) => setSmall(event.currentTarget.naturalWidth < 128)} />
      </button>
      <dialog ref={dialog} class="large" aria-label={name} onClick={() => dialog.current?.close()}>
        <button>close</button>
        <img src={address} alt={name} class={sized} />
      </dialog>
    </>
  );
}
