// One run: what it said of itself, and what it recorded.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { useAsked } from "./asked";
import { Boundary } from "./boundary";
import { Curves } from "./curves";
import { cell, duration, moment, number, size } from "./format";
import { Media } from "./media";
import { Moments } from "./moments";
import type { Painting } from "./painting";
import { Ending } from "./runs";
import type { Named, RunAbout, Source } from "./source";
import { RUN_PARTS, type State } from "./state";
import { Steer } from "./steer";

const REFRESH_MS = 1000;
const ONE_COLUMN = "(max-width: 1000px)"; // as in the style sheet

export function Run({ source, open, version, state, change, close, names, painting, table }: {
  source: Source;
  open: string;
  version: string;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  close: () => void;
  names: Record<string, string>;
  painting: Painting;
  table: number;
}) {
  const { answer: about, problem } = useAsked(open, version, () => source.run(open), {
    everyMs: REFRESH_MS, againMs: REFRESH_MS / 4, isWhole: (found) => found.are_all_checkpoints,
  });

  const back = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    // Where the table is not beside it, what was focused there is gone.
    if (matchMedia(ONE_COLUMN).matches) back.current?.focus();
  }, [open]);
  // Its curves and media are shown as those of several are.
  const alone = useMemo(() => ({ ...painting, groups: null }), [painting]);
  const its = { source, state, change, keys: [open], names, painting: alone, versions: { [open]: version } };
  const parts = {
    "as a whole": () => (
      <>
        {problem && <p class="wrong" role="alert">{problem}</p>}
        {about ? <About about={about} /> : !problem && <p class="empty">…</p>}
      </>
    ),
    curves: () => <Curves {...its} table={table} />,
    media: () => <Media {...its} />,
    "at a moment": () => <Moments key={open} source={source} open={open} version={version} time={state.time}
      move={(time) => change({ time })} histograms={state.histograms} />,
  };

  return (
    <section class="run" aria-label="one run">
      <div class="tools">
        <button ref={back} onClick={close}>← all runs</button>
        <span class="tabs">
          {RUN_PARTS.map((part) => (
            <button key={part} aria-pressed={state.part === part} onClick={() => change({ part }, true)}>{part}</button>
          ))}
        </span>
      </div>
      {source.isLive && about?.ending === "running" && <Steer source={source} open={open} />}
      {about && <h2>{about.id} <Ending how={about.ending} /></h2>}
      <Boundary key={state.part}>{parts[state.part]()}</Boundary>
    </section>
  );
}

function About({ about }: { about: RunAbout }) {
  return (
    <>
      {about.name !== about.id && <p class="name">{about.name}</p>}
      {about.reason && <p>{about.reason}</p>}
      {about.notes && <p class="notes">{about.notes}</p>}
      <dl class="facts">
        <Fact name="started">{moment(about.created_s)}</Fact>
        <Fact name="took">{duration(about.duration_s)}</Fact>
        <Fact name="epochs">{cell(about.epochs)}</Fact>
        <Fact name="steps">{cell(about.steps)}</Fact>
        <Fact name="size">{size(about.size_bytes)}</Fact>
        <Fact name="group">{about.group}</Fact>
        <Fact name="began from">{about.parent}</Fact>
        <Fact name="tags">{about.tags.join(", ")}</Fact>
        <Fact name="folder"><code>{about.path}</code></Fact>
        <Fact name="command"><code>{about.argv.join(" ")}</code></Fact>
      </dl>
      {about.faults.length > 0 && (
        <Part name="faults" count={about.faults.length}>
          {about.faults.map((fault, at) => (
            <details key={at} class="fault">
              <summary>{fault.error}: {fault.message} <span class="where">in {cell(fault.source)}, step {cell(fault.step)}</span></summary>
              <pre>{fault.traceback}</pre>
            </details>
          ))}
        </Part>
      )}
      <Pairs name="hyperparameters" pairs={about.hparams} otherwise="It recorded none: save_hyperparameters() in the module's __init__ records them." />
      <Pairs name="changed arguments of the Trainer" pairs={about.config} otherwise="All as by default." />
      <Metrics about={about} />
      <Hooks about={about} />
      <Checkpoints about={about} />
      <Attempts about={about} />
      <Pairs name="environment" pairs={about.environment} otherwise="It recorded none." />
      <Pairs name="versions" pairs={about.versions} otherwise="It recorded none." isOpen={false} />
    </>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return children ? <div><dt>{name}</dt><dd>{children}</dd></div> : null;
}

function Part({ name, count, children, isOpen = true }: {
  name: string;
  count?: number;
  children: ComponentChildren;
  isOpen?: boolean;
}) {
  return (
    <details class="part" open={isOpen}>
      <summary><h3>{name}</h3> {count !== undefined && <span class="count">{count}</span>}</summary>
      <div class="wide" tabIndex={0} role="region" aria-label={name}>{children}</div>
    </details>
  );
}

function Pairs({ name, pairs, otherwise, isOpen }: {
  name: string;
  pairs: Named;
  otherwise: string;
  isOpen?: boolean;
}) {
  const all = Object.entries(pairs);
  return (
    <Part name={name} count={all.length} {...(isOpen === undefined ? {} : { isOpen })}>
      {all.length === 0 ? <p class="empty">{otherwise}</p> : (
        <table>
          <thead class="hidden"><tr><th scope="col">name</th><th scope="col">value</th></tr></thead>
          <tbody>
            {all.map(([each, value]) => <tr key={each}><th scope="row">{each}</th><td class="text">{cell(value)}</td></tr>)}
          </tbody>
        </table>
      )}
    </Part>
  );
}

function Lines({ head, lines }: { head: string[]; lines: ComponentChildren[][] }) {
  return (
    <table>
      <thead><tr>{head.map((name) => <th scope="col" key={name}>{name}</th>)}</tr></thead>
      <tbody>
        {lines.map(([first, ...others], row) => (
          <tr key={row}>
            <th scope="row">{first}</th>
            {others.map((each, at) => <td key={at} class="number">{each}</td>)}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Metrics({ about }: { about: RunAbout }) {
  return (
    <Part name="metrics" count={about.metrics.length}>
      {about.metrics.length === 0 ? <p class="empty">It has recorded none.</p> : (
        <Lines head={["metric", "last", "lowest", "at step", "highest", "at step", "values", "NaN or infinite"]}
          lines={about.metrics.map((each) => [each.name, cell(each.last), cell(each.low), cell(each.low_step),
            cell(each.high), cell(each.high_step), cell(each.count), cell(each.non_finite)])} />
      )}
    </Part>
  );
}

function Hooks({ about }: { about: RunAbout }) {
  const hooks = about.hooks.filter((each) => each.total_s > 0).sort((one, other) => other.total_s - one.total_s);
  const others = about.hooks.filter((each) => each.total_s === 0);
  const most = hooks[0]?.total_s || 1;
  return (
    <Part name="where time goes, by hook" count={hooks.length}>
      {about.hooks.length === 0 ? <p class="empty">It has recorded no hooks.</p> : (
        <>
          <p class="note">Hooks lie within one another: the time of one may be in that of another too.</p>
          <Lines head={["hook", "total", "", "calls", "mean"]}
            lines={hooks.map((hook) => [hook.name, duration(hook.total_s),
              <span class="bar"><i style={{ width: `${(100 * hook.total_s) / most}%` }} /></span>,
              cell(hook.count), duration(hook.mean_s)])} />
          {others.length > 0 && <p class="note">Nobody had anything to do in: {others.map((each) => each.name).join(", ")}.</p>}
        </>
      )}
    </Part>
  );
}

function Checkpoints({ about }: { about: RunAbout }) {
  const all = about.checkpoints;
  const there = all.filter((each) => each.is_there);
  const total = there.reduce((sum, each) => sum + Number(each.size_bytes), 0);
  return (
    <Part name="checkpoints" count={all.length}>
      {!about.are_all_checkpoints && <p class="note">The log is still being read …</p>}
      {all.length === 0 ? <p class="empty">It has saved none.</p> : (
        <>
          <p class="note">{there.length} {there.length === 1 ? "is" : "are"} there, {size(total)}{there.length === 1 ? "" : " together"}.</p>
          <Lines head={["checkpoint", "epoch", "step", "size", "is there"]}
            lines={all.map((each) => [each.path, cell(each.epoch), cell(each.step), size(each.size_bytes), each.is_there ? "yes" : "removed"])} />
        </>
      )}
    </Part>
  );
}

function Attempts({ about }: { about: RunAbout }) {
  return (
    <Part name="attempts" count={about.attempts.length}>
      <Lines head={["attempt", "does", "started", "took", "ended", "epochs", "steps", "events", "ranks", "resumed from"]}
        lines={about.attempts.map((each) => [number(each.attempt), each.fn, moment(each.started_s ?? 0),
          duration(each.duration_s), <span title={each.reason}><Ending how={each.how} /></span>, cell(each.epochs),
          cell(each.steps), cell(each.events), cell(each.ranks), each.resumed_from])} />
      {about.attempts.flatMap((each) => each.damage).map((damage) => <p key={damage} class="wrong">{damage}</p>)}
    </Part>
  );
}
