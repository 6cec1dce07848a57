// The table of runs: only the rows in sight exist, and are asked for as one scrolls.

import { useEffect, useRef, useState } from "preact/hooks";
import { Swatch } from "./curves";
import { cell } from "./format";
import type { Names, Row, Source, Table } from "./source";
import type { State } from "./state";

const ROW = 30; // pixels, as in the style sheet
const PART = 100; // rows asked for at once
const PAUSE_MS = 250; // between letters of a condition

interface RunsProps {
  source: Source;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  keys: string[];
  colours: Record<string, number>;
  /** The state of the table that the server has told of. */
  told: number;
  learnt: (table: Table) => void;
}

export function Runs({ source, state, change, keys, colours, told, learnt }: RunsProps) {
  const [table, setTable] = useState<Table | null>(null);
  const [problem, setProblem] = useState("");
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const [typed, setTyped] = useState(state.where);
  const parts = useRef(new Map<number, Row[]>());
  const place = useRef<HTMLDivElement>(null);
  const question = JSON.stringify([state.where, state.sort, state.isReversed, state.columns]);
  const first = Math.max(0, Math.floor(top / ROW) - 5);
  const last = Math.ceil((top + height) / ROW) + 5;
  const wanted = Array.from(
    { length: Math.floor(last / PART) - Math.floor(first / PART) + 1 },
    (_, at) => Math.floor(first / PART) + at,
  );

  const answered = useRef("");
  useEffect(() => {
    let isOver = false;
    const key = `${question} ${told}`;
    const isOther = answered.current !== key;
    const missing = wanted.filter((part) => isOther || !parts.current.has(part));
    for (const part of missing) {
      source.table({
        where: state.where, sort: state.sort, isReversed: state.isReversed, columns: state.columns,
        first: part * PART, number: PART,
      }).then((found) => {
        if (isOver) return;
        if (answered.current !== key) parts.current.clear();
        answered.current = key;
        parts.current.set(part, found.rows);
        setProblem("");
        setTable(found);
        learnt(found);
      }, (error: Error) => !isOver && setProblem(error.message));
    }
    return () => {
      isOver = true;
    };
  }, [question, told, wanted.join()]);

  useEffect(() => {
    const fit = new ResizeObserver(() => setHeight(place.current?.clientHeight ?? 400));
    if (place.current) fit.observe(place.current);
    return () => fit.disconnect();
  }, []);
  useEffect(() => setTyped(state.where), [state.where]);
  useEffect(() => {
    if (typed === state.where) return undefined;
    const timer = setTimeout(() => change({ where: typed }), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed]);

  const found = table?.found ?? 0;
  const columns = table?.columns ?? [];
  const shown = Array.from({ length: Math.max(0, Math.min(last, found) - first) }, (_, at) => first + at);
  const sort = (name: string): void => {
    if (state.sort !== name) change({ sort: name, isReversed: false });
    else if (!state.isReversed) change({ isReversed: true });
    else change({ sort: "", isReversed: false });
  };
  const choose = (key: string, isChosen: boolean): void =>
    change({ chosen: isChosen ? [...keys, key] : keys.filter((each) => each !== key) });

  return (
    <section class="runs" aria-label="runs">
      <div class="tools">
        <input type="search" id="where" aria-label={source.isLive ? "condition" : "find runs"} value={typed}
          placeholder={source.isLive ? "lr < 0.01 and ending == 'completed'" : "find runs"}
          onInput={(event) => setTyped(event.currentTarget.value)} />
        <Columns source={source} columns={columns} change={change} />
      </div>
      {problem && <p class="wrong" role="alert">{problem}</p>}
      <div class="scroll" ref={place} tabIndex={0} role="region" aria-label="table of runs"
        onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
        {table && !table.all ? <Nothing root={table.root} isLive={source.isLive} /> : table && !found ? (
          <p class="empty">
            None of {table.all} runs is like this.{" "}
            <button onClick={() => { setTyped(""); change({ where: "" }); }}>show all</button>
          </p>
        ) : (
          <table aria-rowcount={found + 1}>
            <thead>
              <tr>
                <th scope="col"><span class="hidden">drawn</span></th>
                <th scope="col">run</th>
                <th scope="col">ended</th>
                {columns.map((name) => (
                  <th scope="col" key={name} aria-sort={state.sort !== name ? "none"
                    : state.isReversed ? "descending" : "ascending"}>
                    <button onClick={() => sort(name)} title={`sort by ${name}`}>
                      {name}{state.sort === name ? (state.isReversed ? " ▼" : " ▲") : ""}
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              <tr aria-hidden="true" style={{ height: `${first * ROW}px` }} />
              {shown.map((number) => {
                const row = parts.current.get(Math.floor(number / PART))?.[number % PART];
                if (!row) return <tr key={number} aria-rowindex={number + 2}><td colSpan={3 + columns.length}>…</td></tr>;
                const isDrawn = keys.includes(row.key);
                return (
                  <tr key={row.key} aria-rowindex={number + 2} class={row.key === state.open ? "open" : ""}>
                    <td>
                      <label class="choice">
                        <input type="checkbox" checked={isDrawn} aria-label={`draw ${row.id}`}
                          onChange={(event) => choose(row.key, event.currentTarget.checked)} />
                        {isDrawn && <Swatch number={colours[row.key] ?? 0} />}
                      </label>
                    </td>
                    <th scope="row" title={row.name}>
                      <a href={`#open=${row.key}`} onClick={(event) => {
                        event.preventDefault();
                        change({ open: row.key }, true);
                      }}>{row.id}</a>
                    </th>
                    <td title={row.problem}><Ending how={row.ending} /></td>
                    {row.cells.map((value, column) => (
                      <td key={column} class={typeof value === "number" ? "number" : ""}>
                        {cell(value, columns[column])}
                      </td>
                    ))}
                  </tr>
                );
              })}
              <tr aria-hidden="true" style={{ height: `${Math.max(0, found - last) * ROW}px` }} />
            </tbody>
          </table>
        )}
      </div>
      <p class="count">
        {table && (found === table.all ? `${found} runs` : `${found} of ${table.all} runs`)}
        {table && found > 0 && <>; {keys.length} drawn{" "}
          {keys.length > 0 && <button onClick={() => change({ chosen: [] })}>none</button>}</>}
      </p>
    </section>
  );
}

export function Ending({ how }: { how: string }) {
  return <span class={`ending ${how.replaceAll(" ", "-")}`}>{how}</span>;
}

function Nothing({ root, isLive }: { root: string; isLive: boolean }) {
  return (
    <div class="empty">
      <p>There are no runs in <code>{root}</code>{isLive ? " yet" : ""}.</p>
      {isLive && (
        <p>A run appears here as soon as it begins: <code>nb.Trainer(max_epochs=3).fit(module, loader)</code> puts
          it into the folder <code>runs</code>, or into that of <code>default_root_dir</code>.</p>
      )}
    </div>
  );
}

function Columns({ source, columns, change }: {
  source: Source;
  columns: string[];
  change: (part: Partial<State>) => void;
}) {
  const [names, setNames] = useState<Names | null>(null);
  const [find, setFind] = useState("");
  const toggle = (name: string, isShown: boolean): void =>
    change({ columns: isShown ? [...columns, name] : columns.filter((each) => each !== name) });
  return (
    <details class="columns" onToggle={(event) => {
      if (event.currentTarget.open) source.names().then(setNames, () => setNames({}));
    }} onKeyDown={(event) => {
      if (event.key === "Escape") event.currentTarget.open = false;
    }}>
      <summary>columns</summary>
      <div class="choices">
        <input type="search" aria-label="find columns" placeholder="find" value={find}
          onInput={(event) => setFind(event.currentTarget.value)} />
        <button onClick={() => change({ columns: [] })}>as before</button>
        {Object.entries(names ?? {}).map(([kind, its]) => {
          const near = its.filter((name) => name.toLowerCase().includes(find.toLowerCase()));
          return near.length > 0 && (
            <fieldset key={kind}>
              <legend>{kind}</legend>
              {near.slice(0, 100).map((name) => (
                <label key={name}>
                  <input type="checkbox" checked={columns.includes(name)}
                    onChange={(event) => toggle(name, event.currentTarget.checked)} /> {name}
                </label>
              ))}
            </fieldset>
          );
        })}
      </div>
    </details>
  );
}
