// Answers from files in a folder: what all runs have together lies in the page, and each run in a
// script beside it, because a page that was opened as a file may load nothing else.

import { type FileData, type FileRun, InFile } from "./file";
import type {
  BandsQuestion, Curve, CurvesQuestion, Histograms, History, MediaOfRun, MediaPlace, Medium, Moment, RunAbout, Spark,
} from "./source";

declare global {
  interface Window {
    takeRun?: (key: string, data: string) => void;
  }
}

export class InFolder extends InFile {
  private readonly asked = new Map<string, Promise<void>>();

  constructor(private readonly held: FileData, private readonly folder: string) {
    super(held);
    window.takeRun = (key, data) => {
      this.held.runs[key] = JSON.parse(data) as FileRun;
    };
  }

  private load(key: string): Promise<void> {
    let loading = this.asked.get(key);
    if (!loading) {
      loading = new Promise((resolve) => {
        const script = document.createElement("script");
        script.src = `${this.folder}/${encodeURIComponent(key)}.js`;
        script.onload = () => resolve();
        script.onerror = () => {
          this.held.runs[key] = { problem: `${script.src} cannot be loaded; is the folder complete?` };
          resolve();
        };
        document.head.append(script);
      });
      this.asked.set(key, loading);
    }
    return loading;
  }

  private async need(keys: string[]): Promise<void> {
    await Promise.all(keys.filter((key) => this.held.table.rows.some((row) => row.key === key)).map((key) => this.load(key)));
  }

  override async run(key: string): Promise<RunAbout> {
    await this.need([key]);
    return super.run(key);
  }

  override async metrics(keys: string[]): Promise<Record<string, number>> {
    await this.need(keys);
    return super.metrics(keys);
  }

  override async curves(question: CurvesQuestion): Promise<Curve[]> {
    await this.need(question.keys);
    return super.curves(question);
  }

  override async bands(question: BandsQuestion): Promise<Curve[]> {
    await this.need(Object.values(question.groups).flat());
    return super.bands(question);
  }

  override async history(key: string): Promise<History> {
    await this.need([key]);
    return super.history(key);
  }

  override async moment(key: string, time: number): Promise<Moment> {
    await this.need([key]);
    return super.moment(key, time);
  }

  override async media(keys: string[]): Promise<Record<string, MediaOfRun>> {
    await this.need(keys);
    return super.media(keys);
  }

  override async medium(key: string, place: MediaPlace): Promise<Medium> {
    await this.need([key]);
    return super.medium(key, place);
  }

  override async histograms(key: string, name: string): Promise<Histograms> {
    await this.need([key]);
    return super.histograms(key, name);
  }

  override async sparklines(metric: string, keys: string[]): Promise<Record<string, Spark>> {
    await this.need(keys);
    return super.sparklines(metric, keys);
  }
}
