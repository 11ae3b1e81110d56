// A job's events as an EventSource reads them, but with the key, which an EventSource can't send.

import { ask } from "./api.js";

const AGAIN_AFTER = 1000;

export class Events {
  #stop = new AbortController();
  #last = "0";
  #onEvent;

  /** onEvent(kind, data), until it is closed or there is nothing more to tell. */
  constructor(path, onEvent) {
    this.#onEvent = onEvent;
    this.#run(path);
  }

  close() {
    this.#stop.abort();
  }

  async #run(path) {
    while (!this.#stop.signal.aborted) {
      try {
        const response = await ask(path, {
          signal: this.#stop.signal,
          headers: { Accept: "text/event-stream", "Last-Event-ID": this.#last },
        });
        // The job has finished and all was told, or there is no such job or no such key.
        if (response.status === 204 || (response.status >= 400 && response.status < 500)) return;
        if (response.ok) await this.#read(response.body);
      } catch {
        // The connection was lost or closed; the loop knows which.
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER));
    }
  }

  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#tell(block);
    }
  }

  #tell(block) {
    const fields = {};
    for (const line of block.split("\n")) {
      const [name, ...text] = line.split(": ");
      fields[name] = text.join(": ");
    }
    if (!fields.event || this.#stop.signal.aborted) return;
    this.#last = fields.id;
    this.#onEvent(fields.event, JSON.parse(fields.data));
  }
}
