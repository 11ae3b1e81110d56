// One job on the page, from queued to its pictures.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);
const clone = (id) => $(id).content.firstElementChild.cloneNode(true);
const seconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} s`;

export class Card {
  #job;
  #drawn = false;
  #progress = null;
  #words = "";
  #onBegin;

  constructor({ onCancel, onReuse, onBegin }) {
    this.#onBegin = onBegin;
    this.element = clone("job-template");
    this.#part(".cancel").addEventListener("click", () => onCancel(this.#job));
    this.#part(".reuse").addEventListener("click", () => onReuse(this.#job));
  }

  get job() {
    return this.#job;
  }

  /** The whole job anew. */
  show(job) {
    this.#job = job;
    this.element.className = `job ${job.status}`;
    this.element.classList.toggle("many", job.images.length > 1);
    this.#part(".prompt").textContent = job.request.prompt;
    this.#part(".badge").textContent = job.status;
    if (job.status === "queued") this.#progress = null;
    this.#list(".notes", job.notes);
    this.#recipe(job);
    this.#pictures(job);
    this.#state();
    const failed = this.#part(".about > .error");
    failed.hidden = !job.error;
    failed.textContent = job.error ? `${job.error.message} (${job.error.code})` : "";
    this.#part(".cancel").hidden = Boolean(job.finished_at);
  }

  /** Something that happened since the job was last shown. */
  tell(kind, data) {
    if (this.#job.finished_at) return;
    if (kind === "queued" && data.reason) this.#words = data.reason;
    if (kind === "started") {
      this.#words = "";
      this.#progress = null;
    }
    if (kind === "loading") {
      this.#words = `loading ${data.model}`;
      if (data.bytes_total) this.#words += ` ${Math.floor((100 * data.bytes_done) / data.bytes_total)} %`;
    }
    if (kind === "canceling") this.#job.cancel_requested = true;
    if (kind === "step") {
      this.#progress = data;
      if (data.preview) this.#sketch(data.preview);
    }
    this.#state();
  }

  complain(problem) {
    const error = this.#part(".about > .error");
    error.textContent = problem.message;
    error.hidden = false;
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  #state() {
    const job = this.#job;
    const bar = this.#part("progress");
    const running = job.status === "running";
    bar.hidden = !running;
    bar.setAttribute("aria-label", `Progress of: ${job.request.prompt}`);
    if (this.#progress) {
      bar.max = this.#progress.steps;
      bar.value = this.#progress.step;
    } else {
      bar.removeAttribute("value");
    }
    this.#part(".words").textContent = this.#sentence(job);
    this.#part(".cancel").disabled = job.cancel_requested;
  }

  #sentence(job) {
    if (job.finished_at) {
      const { queued, starting, loading, denoising, storing } = job.timings;
      const asked = new Date(job.created_at).toLocaleTimeString();
      if (job.status !== "succeeded") return asked;
      return `${asked} · ${seconds(queued + starting + loading + denoising + storing)}`;
    }
    if (job.cancel_requested) return "stopping at the next step";
    if (job.status === "queued") return job.waiting ?? this.#words;
    if (this.#progress) return `step ${this.#progress.step} of ${this.#progress.steps}`;
    return this.#words || "a worker has it";
  }

  #list(selector, texts) {
    const list = this.#part(selector);
    list.hidden = texts.length === 0;
    list.replaceChildren(...texts.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
  }

  #recipe(job) {
    const { used, request, timings, charge } = job;
    const rows = {
      Model: used.model,
      Size: `${used.width} × ${used.height}`,
      "Drawn at": used.render_width === used.width && used.render_height === used.height
        ? null : `${used.render_width} × ${used.render_height}`,
      Steps: used.num_inference_steps,
      Guidance: used.guidance_scale,
      Sampler: used.sampler,
      Schedule: used.schedule,
      "Drawn anew": request.init_image ? request.strength ?? null : null,
      Seed: used.seed,
      Negative: request.negative_prompt || null,
      Attempts: job.attempts > 1 ? job.attempts : null,
      Time: job.status !== "succeeded" ? null
        : Object.entries(timings).map(([phase, took]) => `${phase} ${seconds(took)}`).join(", "),
      GPU: charge?.gpu_seconds ? seconds(charge.gpu_seconds) : null,
      Cost: charge?.cost == null ? null : `${charge.cost.toFixed(4)} ${charge.currency}`,
    };
    const cells = Object.entries(rows).filter(([, value]) => value !== null).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    });
    this.#part("dl").replaceChildren(...cells);
  }

  #pictures(job) {
    const place = this.#part(".pictures");
    const bare = Boolean(job.finished_at) && job.images.length === 0;
    place.hidden = bare;
    this.element.classList.toggle("bare", bare);
    if (job.images.length > 0) {
      if (!this.#drawn) place.replaceChildren(...job.images.map((image) => this.#picture(job, image)));
      this.#drawn = true;
    } else if (!place.firstElementChild) {
      const sketch = document.createElement("div");
      sketch.className = "sketch";
      sketch.style.aspectRatio = `${job.used.width} / ${job.used.height}`;
      place.replaceChildren(sketch);
    }
  }

  #picture(job, image) {
    const figure = clone("picture-template");
    const picture = figure.querySelector("img");
    Object.assign(picture, { width: image.width, height: image.height, loading: "lazy" });
    picture.alt = job.images.length > 1 ? `${job.request.prompt} (${image.index + 1})` : job.request.prompt;
    figure.querySelector(".seed").textContent = image.seed;
    const begin = figure.querySelector(".begin");
    begin.setAttribute("aria-label", `Begin with the picture of seed ${image.seed}`);
    begin.addEventListener("click", () => this.#onBegin(job, image));
    const download = figure.querySelector(".download");
    download.download = `${job.id}-${image.index}.${image.media_type.split("/")[1].replace("jpeg", "jpg")}`;
    download.setAttribute("aria-label", `Download the picture of seed ${image.seed}`);
    api.address(image.url).then((address) => {
      picture.src = address;
      download.href = address;
      figure.querySelector(".full").href = address;
    }, (problem) => this.complain(problem));
    return figure;
  }

  #sketch(preview) {
    const place = this.#part(".sketch");
    if (!place) return;
    const picture = place.firstElementChild ?? place.appendChild(document.createElement("img"));
    picture.alt = "";
    picture.src = preview;
  }
}
