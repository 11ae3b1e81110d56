// Follows the jobs that have not finished: two by their events, the others by asking now and then.

import * as api from "./api.js";
import { Events } from "./events.js";

// A browser opens six connections to one address; pictures and other tabs need some too.
const STREAMS = 2;
const ASK_EVERY = 2000;
const LAST = new Set(["succeeded", "failed", "canceled"]);

export class Watcher {
  #open = new Map();
  #timer = null;

  /** onJob(job): the whole job anew. onEvent(id, kind, data): what happened in between. */
  constructor(onJob, onEvent) {
    this.onJob = onJob;
    this.onEvent = onEvent;
  }

  follow(id) {
    if (this.#open.has(id)) return;
    this.#open.set(id, null);
    this.#connect();
    this.#ask();
  }

  forgetAll() {
    for (const stream of this.#open.values()) stream?.close();
    this.#open.clear();
  }

  #connect() {
    // The oldest first: it is the next to run.
    for (const id of [...this.#open.keys()].sort()) {
      const busy = [...this.#open.values()].filter(Boolean).length;
      if (busy >= STREAMS) return;
      if (!this.#open.get(id)) this.#open.set(id, this.#stream(id));
    }
  }

  #stream(id) {
    return new Events(`/v1/jobs/${id}/events`, (kind, data) => {
      this.onEvent(id, kind, data);
      if (LAST.has(kind) || kind === "started") this.#refresh(id);
    });
  }

  async #refresh(id) {
    try {
      const job = await api.job(id);
      this.onJob(job);
      if (job.finished_at) this.#forget(id);
    } catch (problem) {
      if (problem.code === "not_found") this.#forget(id);
    }
  }

  #forget(id) {
    this.#open.get(id)?.close();
    this.#open.delete(id);
    this.#connect();
  }

  #ask() {
    if (this.#timer !== null || this.#open.size === 0) return;
    this.#timer = setTimeout(async () => {
      await Promise.all([...this.#open.keys()].map((id) => this.#refresh(id)));
      this.#timer = null;
      this.#ask();
    }, ASK_EVERY);
  }
}
