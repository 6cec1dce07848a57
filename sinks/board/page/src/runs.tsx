// The table of runs: only the rows in sight exist, and are asked for as one scrolls.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useAsked } from "./asked";
import type { Line } from "./colours";
import { cell, number as asNumber } from "./format";
import { type Layout, layout } from "./groups";
import { ChoiceOfName, Swatch, TITLES, useNames } from "./legend";
import { RunLink } from "./links";
import { idOfGroup, MOST_DRAWN, type Painting } from "./painting";
import { Popover } from "./popover";
import type { Cell, Latest, Problem, Row, Source, Table, TableGroup } from "./source";
import { Sparkline, useSparks } from "./sparkline";
import type { State } from "./state";

const ROW = 30; // pixels, as in the style sheet
const PART = 100; // rows asked for at once
const PAUSE_MS = 250; // between letters of a condition
const MOST_NAMES = 100; // of a kind in the choice of columns
const TOO_MANY = `at most ${MOST_DRAWN} at once: untick one to draw another`;

interface RunsProps {
  source: Source;
  state: State;
  change: (part: Partial<State>, isStep?: boolean) => void;
  keys: string[];
  painting: Painting;
  /** The state of the table that the server has told of. */
  told: number;
  /** What is known of runs that go on, newer than the table. */
  latest: Record<string, Latest>;
  learnt: (table: Table) => void;
  refused: (error: Problem) => void;
  /** Why runs have no colours or groups; empty if they have. */
  paintingWrong: string;
}

export function Runs({ source, state, change, keys, painting, told, latest, learnt, refused, paintingWrong }: RunsProps) {
  const [table, setTable] = useState<Table | null>(null);
  const [problem, setProblem] = useState("");
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const [typed, setTyped] = useState(state.where);
  const parts = useRef(new Map<number, Row[]>());
  const place = useRef<HTMLDivElement>(null);
  const [closed, setClosed] = useState<Set<string>>(new Set());
  const [names, askNames, namesWrong] = useNames(source, table !== null);
  const question = JSON.stringify([state.where, state.sort, state.isReversed, state.columns, state.group]);
  const found = table?.found ?? 0;
  const groups = state.group && table ? table.groups : [];
  const plan = useMemo(
    () => layout(found, groups, (group) => closed.has(JSON.stringify(group.value))), [found, groups, closed]);
  const first = Math.max(0, Math.min(Math.floor(top / ROW) - 5, plan.length));
  const last = Math.min(Math.ceil((top + height) / ROW) + 5, Math.max(plan.length, table ? 0 : PART));
  const wanted = partsOf(plan, first, last);

  // Tables are numbered as they are asked for; what is shown is of one. An answer is shown though a newer
  // table has been asked for since, but not if another question has.
  const asked = useRef({ question: "", told: -1, number: 0 });
  const shownOf = useRef(0);
  const onTheWay = useRef(new Set<string>());
  const ask = (first: number, number: number): Promise<Table> => source.table({
    where: state.where, sort: state.sort, isReversed: state.isReversed, columns: state.columns, group: state.group, first, number,
  });
  useEffect(() => {
    if (asked.current.question !== question || asked.current.told !== told) {
      asked.current = { question, told, number: asked.current.number + 1 };
    }
    const { number } = asked.current;
    const missing = wanted.filter((part) => (
      !onTheWay.current.has(`${number} ${part}`) && (shownOf.current !== number || !parts.current.has(part))
    ));
    for (const part of missing) {
      onTheWay.current.add(`${number} ${part}`);
      ask(part * PART, PART).finally(() => onTheWay.current.delete(`${number} ${part}`)).then((found) => {
        if (asked.current.question !== question || number < shownOf.current) return;
        if (number > shownOf.current) parts.current.clear();
        shownOf.current = number;
        parts.current.set(part, found.rows);
        setProblem("");
        setTable(found);
        learnt(found);
      }, (error: Problem) => {
        if (number === asked.current.number) setProblem(error.message);
        refused(error);
      });
    }
  }, [question, told, wanted.join()]);

  useEffect(() => {
    const fit = new ResizeObserver(() => setHeight(place.current?.clientHeight ?? 400));
    if (place.current) fit.observe(place.current);
    return () => fit.disconnect();
  }, []);
  const sent = useRef(state.where);
  useEffect(() => {
    if (state.where !== sent.current) setTyped(state.where); // not what was typed here, perhaps on since
    sent.current = state.where;
  }, [state.where]);
  useEffect(() => {
    if (typed === state.where) return undefined;
    const timer = setTimeout(() => {
      sent.current = typed;
      change({ where: typed });
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [typed]);

  const columns = table?.columns ?? [];
  const shown = Array.from({ length: Math.max(0, last - first) }, (_, at) => plan.at(first + at));
  const rowAt = (number: number): Row | undefined => parts.current.get(Math.floor(number / PART))?.[number % PART];
  const inSight = shown.flatMap((item) => ("row" in item ? rowAt(item.row) ?? [] : []));
  const isNumber = columns.map((_, at) => inSight.some((row) => typeof row.cells[at] === "number"));
  const spark = state.spark ?? names["metrics"]?.[0] ?? "";
  // The column metrics.lr is of the metric lr, where a hyperparameter has that name, too.
  const [sparks, sparksWrong] = useSparks(source, spark.replace(/^metrics\./, ""), inSight, told);
  const wrong = problem || paintingWrong || namesWrong || sparksWrong;
  const width = 3 + columns.length + (spark ? 1 : 0);
  const sort = (name: string): void => {
    if (state.sort !== name) change({ sort: name, isReversed: false });
    else if (!state.isReversed) change({ isReversed: true });
    else change({ sort: "", isReversed: false });
  };
  const choose = (key: string, isChosen: boolean): void =>
    change({ chosen: isChosen ? [...keys, key] : keys.filter((each) => each !== key) });
  const isFull = keys.length >= MOST_DRAWN;
  // Where no more can be drawn, a click on a group of which a part is drawn takes that away.
  const chooseGroup = (group: TableGroup, isChosen: boolean): void => {
    const its = painting.members(group.value);
    const all = isChosen && !isFull ? [...new Set([...keys, ...its])] : keys.filter((key) => !its.includes(key));
    change({ chosen: all.slice(0, MOST_DRAWN) });
  };
  const chooseAll = (): void => {
    ask(0, MOST_DRAWN).then((found) => change({ chosen: found.rows.map((row) => row.key) }), (error: Error) => setProblem(error.message));
  };
  const toggle = (group: TableGroup): void => {
    const value = JSON.stringify(group.value);
    setClosed((before) => new Set(before.has(value) ? [...before].filter((each) => each !== value) : [...before, value]));
  };

  return (
    <section class="runs" aria-label="runs">
      <div class="tools">
        <input type="search" id="where" aria-label={source.isLive ? "condition" : "find runs"} value={typed}
          placeholder={source.isLive ? "lr < 0.01 and ending == 'completed'" : "find runs"}
          onInput={(event) => setTyped(event.currentTarget.value)} />
        <Columns source={source} columns={state.columns.length ? state.columns : columns} change={change} />
      </div>
      <div class="tools choices-of-names">
        <ChoiceOfName label="small curve" none="none" value={spark} kinds={["metrics"]} names={names} refresh={askNames}
          choose={(name) => change({ spark: name })} />
        <ChoiceOfName label="colour by" none="run" value={state.colour} names={names} refresh={askNames}
          kinds={["hparams", "metrics", "fields", "config", "environment"]} choose={(name) => change({ colour: name })} />
        <ChoiceOfName label="group by" none="nothing" value={state.group} names={names} refresh={askNames}
          kinds={["hparams", "fields", "config", "environment"]} choose={(name) => change({ group: name })} />
      </div>
      {wrong ? <p class="wrong" role="alert">{wrong}</p> : table?.unknown && <p class="note" role="status">{table.unknown}</p>}
      <div class="scroll" ref={place} tabIndex={0} role="region" aria-label="table of runs"
        onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
        {table && !table.all ? <Nothing root={table.root} isLive={source.isLive} /> : table && !found ? (
          <p class="empty">
            None of {table.all} runs is like this.{" "}
            <button onClick={() => { setTyped(""); change({ where: "" }); }}>show all</button>
          </p>
        ) : (
          <table aria-rowcount={plan.length + 1}>
            <thead>
              <tr>
                <th scope="col"><span class="hidden">drawn</span></th>
                <SortedBy name="id" title="run" state={state} sort={sort} />
                <SortedBy name="ending" title="ended" state={state} sort={sort} />
                {spark && <th scope="col" title={spark}>{spark}</th>}
                {columns.map((name, at) => (
                  <SortedBy key={name} name={name} title={name} state={state} sort={sort} isNumber={isNumber[at] ?? false} />
                ))}
              </tr>
            </thead>
            <tbody>
              <tr aria-hidden="true" style={{ height: `${first * ROW}px` }} />
              {shown.map((item, place) => {
                const number = first + place;
                if ("group" in item) {
                  const group = groups[item.group] as TableGroup;
                  return <Head key={`group ${item.group}`} group={group} state={state} columns={columns} hasSpark={spark !== ""}
                    number={number} isClosed={closed.has(JSON.stringify(group.value))} toggle={() => toggle(group)}
                    line={state.isEach ? null : painting.groups?.find((each) => each.id === idOfGroup(group.value))?.line ?? null}
                    drawn={painting.members(group.value).filter((key) => keys.includes(key)).length}
                    isFull={isFull} choose={(isChosen) => chooseGroup(group, isChosen)} />;
                }
                const row = rowAt(item.row);
                if (!row) return <tr key={number} aria-rowindex={number + 2}><td colSpan={width}>…</td></tr>;
                const isDrawn = keys.includes(row.key);
                return (
                  <tr key={row.key} aria-rowindex={number + 2} class={row.key === state.open ? "open" : ""}>
                    <td>
                      <label class="choice">
                        <input type="checkbox" checked={isDrawn} aria-label={`draw ${row.id}`} disabled={isFull && !isDrawn}
                          title={isFull && !isDrawn ? TOO_MANY : ""}
                          onChange={(event) => choose(row.key, event.currentTarget.checked)} />
                        {(isDrawn || painting.palette) && <Swatch line={painting.line(row.key)} />}
                      </label>
                    </td>
                    <th scope="row" title={row.name}>
                      <RunLink run={row.key} state={state} change={change}>{row.id}</RunLink>
                    </th>
                    <td title={row.problem || row.reason}><Ending how={row.ending} /></td>
                    {spark && (
                      <td class="curve">
                        <Sparkline spark={sparks.get(row.key)} name={spark}
                          colour={isDrawn || painting.palette ? painting.line(row.key).colour : "currentColor"} />
                      </td>
                    )}
                    {newest(row, columns, latest[row.key]).map((value, column) => (
                      <td key={column} class={typeof value === "number" ? "number" : ""}>
                        {cell(value, columns[column])}
                      </td>
                    ))}
                  </tr>
                );
              })}
              <tr aria-hidden="true" style={{ height: `${Math.max(0, plan.length - last) * ROW}px` }} />
            </tbody>
          </table>
        )}
      </div>
      <p class="count">
        {table && (found === table.all ? `${found} ${found === 1 ? "run" : "runs"}` : `${found} of ${table.all} runs`)}
        {table && found > 0 && <>; {keys.length} drawn{isFull && `, ${TOO_MANY}`}{" "}
          {found > 1 && <button onClick={chooseAll}>{found > MOST_DRAWN ? `draw the first ${MOST_DRAWN}` : "draw all"}</button>}{" "}
          {keys.length > 0 && <button onClick={() => change({ chosen: [] })}>none</button>}</>}
      </p>
    </section>
  );
}

/** The head of a column, by which the table is sorted when it is clicked. */
function SortedBy({ name, title, state, sort, isNumber = false }: {
  name: string;
  title: string;
  state: State;
  sort: (name: string) => void;
  isNumber?: boolean;
}) {
  const isIt = state.sort === name;
  return (
    <th scope="col" class={isNumber ? "number" : ""} aria-sort={!isIt ? "none" : state.isReversed ? "descending" : "ascending"}>
      <button onClick={() => sort(name)} title={`sort by ${title}`}>{title}{isIt ? (state.isReversed ? " ▼" : " ▲") : ""}</button>
    </th>
  );
}

function partsOf(plan: Layout, first: number, last: number): number[] {
  const parts = new Set<number>(plan.length ? [] : [0]);
  for (let place = first; place < Math.min(last, plan.length); place += 1) {
    const item = plan.at(place);
    if ("row" in item) parts.add(Math.floor(item.row / PART));
  }
  return [...(parts.size ? parts : [0])];
}

function Head({ group, line, state, columns, hasSpark, number, isClosed, toggle, drawn, isFull, choose }: {
  group: TableGroup;
  /** With which its mean is drawn; null if it is not. */
  line: Line | null;
  state: State;
  columns: string[];
  hasSpark: boolean;
  number: number;
  isClosed: boolean;
  toggle: () => void;
  drawn: number;
  isFull: boolean;
  choose: (isChosen: boolean) => void;
}) {
  const value = group.value === null ? "none" : cell(group.value, state.group);
  return (
    <tr class="group" aria-rowindex={number + 2}>
      <td>
        <label class="choice">
          <input type="checkbox" checked={drawn === group.count} disabled={isFull && !drawn} title={isFull && !drawn ? TOO_MANY : ""} aria-label={`draw the runs with ${state.group} ${value}`}
            ref={(box) => {
              if (box) box.indeterminate = drawn > 0 && drawn < group.count;
            }} onChange={(event) => choose(event.currentTarget.checked)} />
          {line && <Swatch line={line} />}
        </label>
      </td>
      <th scope="row" colSpan={hasSpark ? 3 : 2}>
        <button aria-expanded={!isClosed} onClick={toggle}>
          {isClosed ? "▸" : "▾"} {state.group} <b>{value}</b> <span class="quiet">{group.count} {group.count === 1 ? "run" : "runs"}</span>
        </button>
      </th>
      {columns.map((name, at) => {
        const mean = group.means[at];
        return <td key={name} class="number quiet" title={`mean of ${name}`}>
          {mean == null || name === "created" ? "" : `⌀ ${name === "duration" ? cell(mean, name) : asNumber(Number(mean.toPrecision(5)))}`}
        </td>;
      })}
    </tr>
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
  const [isOpen, setOpen] = useState(false);
  const { answer: names, problem } = useAsked(isOpen ? "names" : null, 0, () => source.names());
  const [find, setFind] = useState("");
  const toggle = (name: string, isShown: boolean): void =>
    change({ columns: isShown ? [...columns, name] : columns.filter((each) => each !== name) });
  return (
    <Popover name="columns" opened={setOpen}>
      <input type="search" aria-label="find columns" placeholder="find" value={find}
        onInput={(event) => setFind(event.currentTarget.value)} />
      <button onClick={() => change({ columns: [] })}>as before</button>
      {problem && <p class="wrong" role="alert">{problem}</p>}
      {Object.entries(names ?? {}).map(([kind, its]) => {
        const near = its.filter((name) => name.toLowerCase().includes(find.toLowerCase()));
        return near.length > 0 && (
          <fieldset key={kind}>
            <legend>{TITLES[kind] ?? kind}</legend>
            {near.slice(0, MOST_NAMES).map((name) => (
              <label key={name}>
                <input type="checkbox" checked={columns.includes(name)}
                  onChange={(event) => toggle(name, event.currentTarget.checked)} /> {name}
              </label>
            ))}
            {near.length > MOST_NAMES && <span class="note">and {near.length - MOST_NAMES} more: find them by name</span>}
          </fieldset>
        );
      })}
    </Popover>
  );
}

/** The cells of a row; of a run that goes on, with what has come since the table was read. */
function newest(row: Row, columns: string[], latest: Latest | undefined): Cell[] {
  if (!latest || row.ending !== "running") return row.cells;
  const [step, epoch, values] = latest;
  const passed = (cell: Cell, now: number): Cell => (typeof cell === "number" ? Math.max(cell, now) : now);
  return row.cells.map((cell, at) => {
    const name = columns[at] ?? "";
    if (name === "steps") return passed(cell, step);
    if (name === "epochs") return passed(cell, epoch);
    return Object.hasOwn(values, name) ? values[name] ?? null : cell;
  });
}
