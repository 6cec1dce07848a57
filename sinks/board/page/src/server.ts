// Asks the server that the page came from.

import {
  type BandsQuestion,
  type Columns,
  type Comparison,
  type Curve,
  type CurvesQuestion,
  type FirstDifference,
  type Histograms,
  type History,
  type MediaOfRun,
  type MediaPlace,
  type Medium,
  type Moment,
  type Names,
  type Offer,
  Problem,
  type RunAbout,
  type Source,
  type Spark,
  type SteerAnswer,
  type Table,
  type TableQuestion,
  type Told,
  type Wish,
} from "./source";

const RECONNECT_MS = 1000;
const PROOF_MS = 5000;
const UNPROVED = "what answers here does not know the board's token";
const SILENCE_MS = 45_000; // the board says every 15 s that it is still there

type Asked = [name: string, value: string | number][];

interface Entry {
  key?: string;
  group?: string;
  runs?: number;
  marks?: [string, number][];
  points: number;
  values?: number;
  is_smooth?: boolean;
  is_exact?: boolean;
  is_read?: boolean;
  problem?: string;
}

export class Server implements Source {
  readonly isLive = true;
  readonly note = "";

  constructor(private readonly token: string) {}

  private proof: Promise<void> | null = null;
  private place: string | null = null; // where the board says that it listens
  private isProved = false;
  private wait = 0;

  /** Ask until the board answers: one that was stopped may be started again. */
  private async ask(path: string, asked: Asked = []): Promise<Response> {
    for (;;) {
      await this.proved();
      try {
        return await this.askOnce(path, asked);
      } catch (error) {
        if ((error as Problem).status !== 0) throw error;
      }
    }
  }

  /**
   * Wait until a board answers and has proved that it knows the token; whoever waits, it is tried once
   * a second. When the board has ended, another user's program may listen where it did.
   */
  private proved(): Promise<void> {
    this.proof ??= (async () => {
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, this.wait));
        this.wait = RECONNECT_MS;
        const place = await placeProved(this.token);
        if (place === null) continue;
        if (place === undefined || place !== (this.place ?? place)) {
          this.proof = null;
          throw new Problem(`${UNPROVED}: open the address that nightbus board has printed`, 401);
        }
        this.place = place;
        this.isProved = true;
        return;
      }
    })();
    return this.proof;
  }

  private lost(): void {
    if (!this.isProved) return;
    this.isProved = false;
    this.proof = null;
  }

  private async askOnce(path: string, asked: Asked = [], more: RequestInit = {}): Promise<Response> {
    const query = new URLSearchParams(asked.map(([name, value]) => [name, String(value)]));
    let answer: Response;
    try {
      if (!this.isProved) throw new Error(UNPROVED);
      answer = await fetch(`/api/${path}?${query}`, {
        ...more,
        headers: { Authorization: `Bearer ${this.token}`, ...more.headers },
      });
    } catch {
      if (!more.signal?.aborted) this.lost();
      throw new Problem("the board does not answer; is it still running?", 0);
    }
    if (!answer.ok) {
      const text = await answer.text();
      let said = text;
      try {
        said = (JSON.parse(text) as { problem: string }).problem;
      } catch {
        // It is a text already.
      }
      throw new Problem(said, answer.status);
    }
    return answer;
  }

  async table(question: TableQuestion): Promise<Table> {
    const asked: Asked = [
      ["where", question.where],
      ["sort", question.sort],
      ["reverse", question.isReversed ? 1 : 0],
      ["offset", question.first],
      ["limit", question.number],
      ["group", question.group],
      ["listens", 1], // what has changed since the table was read is told: it need not be read again first
    ];
    for (const name of question.columns) asked.push(["column", name]);
    return (await this.ask("table", asked)).json() as Promise<Table>;
  }

  async names(): Promise<Names> {
    return (await this.ask("names")).json() as Promise<Names>;
  }

  async run(key: string): Promise<RunAbout> {
    return (await this.ask(`run/${encodeURIComponent(key)}`)).json() as Promise<RunAbout>;
  }

  async metrics(keys: string[]): Promise<Record<string, number>> {
    const asked = keys.map((key): [string, string] => ["run", key]);
    return (await this.ask("metrics", asked)).json() as Promise<Record<string, number>>;
  }

  async curves(question: CurvesQuestion): Promise<Curve[]> {
    const asked = numbers(question);
    for (const key of question.keys) asked.push(["run", key]);
    return unpacked(await (await this.ask("curves", asked)).arrayBuffer());
  }

  async bands(question: BandsQuestion): Promise<Curve[]> {
    const asked = numbers(question);
    for (const [group, keys] of Object.entries(question.groups)) {
      for (const key of keys) asked.push(["run", key], ["group", group]);
    }
    return unpacked(await (await this.ask("bands", asked)).arrayBuffer());
  }

  async columns(names: string[], where: string, keys: string[]): Promise<Columns> {
    const asked: Asked = [["where", where]];
    for (const name of names) asked.push(["name", name]);
    for (const key of keys) asked.push(["run", key]);
    return (await this.ask("columns", asked)).json() as Promise<Columns>;
  }

  async compare(keys: string[]): Promise<Comparison> {
    const asked = keys.map((key): [string, string] => ["run", key]);
    return (await this.ask("compare", asked)).json() as Promise<Comparison>;
  }

  async firstDifference(left: string, right: string): Promise<FirstDifference> {
    return (await this.ask("first-difference", [["run", left], ["run", right]])).json() as Promise<FirstDifference>;
  }

  async history(key: string): Promise<History> {
    return (await this.ask(`history/${encodeURIComponent(key)}`)).json() as Promise<History>;
  }

  async moment(key: string, time: number): Promise<Moment> {
    return (await this.ask(`moment/${encodeURIComponent(key)}`, [["time", time]])).json() as Promise<Moment>;
  }

  async media(keys: string[]): Promise<Record<string, MediaOfRun>> {
    const asked = keys.map((key): [string, string] => ["run", key]);
    return ((await (await this.ask("media", asked)).json()) as { runs: Record<string, MediaOfRun> }).runs;
  }

  async medium(key: string, [attempt, seq]: MediaPlace): Promise<Medium> {
    const answer = await this.ask(`medium/${encodeURIComponent(key)}`, [["attempt", attempt], ["seq", seq]]);
    if (!answer.headers.get("content-type")?.startsWith("image/")) return answer.json() as Promise<Medium>;
    return { picture: await inItself(await answer.blob()) };
  }

  async histograms(key: string, name: string): Promise<Histograms> {
    return (await this.ask(`histograms/${encodeURIComponent(key)}`, [["name", name]])).json() as Promise<Histograms>;
  }

  async sparklines(metric: string, keys: string[]): Promise<Record<string, Spark>> {
    const asked: Asked = [["metric", metric]];
    for (const key of keys) asked.push(["run", key]);
    return ((await (await this.ask("sparklines", asked)).json()) as { runs: Record<string, Spark> }).runs;
  }

  async offer(): Promise<Offer | null> {
    return (await this.ask("steering")).json() as Promise<Offer | null>;
  }

  async steer(key: string, wish: Wish, token: string): Promise<SteerAnswer> {
    const answer = await this.askOnce(`steer/${encodeURIComponent(key)}`, [], {
      method: "POST",
      headers: { "Content-Type": "application/json", "Nightbus-Steering": token },
      body: JSON.stringify(wish),
    });
    return answer.json() as Promise<SteerAnswer>;
  }

  listen(keys: string[], told: (what: Told | null) => void): () => void {
    const control = new AbortController();
    const asked = keys.map((key): [string, string] => ["run", key]);
    const follow = async (): Promise<void> => {
      while (!control.signal.aborted) {
        const stream = new AbortController();
        let silence = 0;
        const heard = (): void => {
          clearTimeout(silence);
          silence = window.setTimeout(() => stream.abort(), SILENCE_MS);
        };
        control.signal.addEventListener("abort", () => stream.abort(), { signal: stream.signal });
        try {
          await this.proved();
          heard();
          const answer = await this.askOnce("live", asked, { signal: stream.signal });
          if (answer.body) await eachEvent(answer.body, heard, told);
        } catch {
          // Said below; it is tried again.
        }
        clearTimeout(silence);
        stream.abort();
        if (control.signal.aborted) return;
        this.lost();
        told(null);
      }
    };
    void follow();
    return () => control.abort();
  }
}

/**
 * Where the board listens that proves to know the token: null if none answers, undefined if what answers
 * does not know it. A browser can check it only for addresses of this machine, and tokens are kept only
 * for those; others are new at each start.
 */
async function placeProved(token: string): Promise<string | null | undefined> {
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  const asked = { signal: AbortSignal.timeout(PROOF_MS) };
  const answer = await fetch(`/api/proof?nonce=${nonce}`, asked).catch(() => null);
  if (answer === null) return null;
  if (!token || !isSecureContext) return "";
  try {
    const said = (await answer.json()) as { place: string; proof: string };
    const of = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", encoded(token), of, false, ["sign"]);
    const proof = hex(new Uint8Array(await crypto.subtle.sign(of, key, encoded(`${said.place}\n${nonce}`))));
    return proof === said.proof ? said.place : undefined;
  } catch {
    return undefined;
  }
}

function encoded(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A picture as an address that holds all of it: an img cannot send the token. */
function inItself(picture: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(picture);
  });
}

function numbers(question: Omit<CurvesQuestion, "keys">): Asked {
  const asked: Asked = [
    ["metric", question.metric],
    ["x", question.x],
    ["stretches", question.stretches],
    ["smooth", question.smoothing],
  ];
  if (Number.isFinite(question.from)) asked.push(["from", question.from]);
  if (Number.isFinite(question.to)) asked.push(["to", question.to]);
  return asked;
}

function unpacked(answer: ArrayBuffer): Curve[] {
  const length = new DataView(answer).getUint32(0, true);
  const head = new TextDecoder().decode(new Uint8Array(answer, 4, length));
  let at = 4 + length;
  const next = (points: number): Float64Array => {
    at += 8 * points;
    return new Float64Array(answer, at - 8 * points, points);
  };
  return (JSON.parse(head) as { entries: Entry[] }).entries.map((entry) => {
    const [x, y] = [next(entry.points), next(entry.points)];
    const isBand = entry.group !== undefined;
    return {
      key: entry.key ?? entry.group ?? "",
      x,
      y,
      ...(isBand ? { range: { low: next(entry.points), high: next(entry.points), runs: entry.runs ?? 0 } } : {}),
      values: entry.values ?? 0,
      isSmooth: entry.is_smooth ?? false,
      isExact: entry.is_exact ?? true,
      isRead: entry.is_read ?? true,
      problem: entry.problem ?? "",
      marks: entry.marks ?? [],
    };
  });
}

async function eachEvent(body: ReadableStream<Uint8Array>, heard: () => void, told: (what: Told) => void) {
  const reader = body.pipeThrough(new TextDecoderStream() as unknown as
    ReadableWritablePair<string, Uint8Array>).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const events = (left + value).split("\n\n");
    left = events.pop() ?? "";
    for (const event of events) {
      if (event.startsWith("data: ")) told(JSON.parse(event.slice(6)) as Told);
    }
  }
}
