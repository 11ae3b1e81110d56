// The form: what the caller asks for, and each error beside the field it names.

import { Problem } from "./api.js";
import * as picture from "./picture.js";

const form = document.getElementById("ask");
const advanced = document.getElementById("advanced");
const formError = document.getElementById("form-error");
const NUMBERS = ["width", "height", "num_inference_steps", "guidance_scale", "num_images", "clip_skip", "strength"];
const DEFAULTS = ["width", "height", "num_inference_steps", "guidance_scale"];
const FIELDS = ["prompt", "negative_prompt", "seed", "sampler", "schedule", "model", ...NUMBERS];

let catalogue = [];

/** The request; what is left empty is left out. */
export async function read() {
  const request = {};
  for (const name of FIELDS) {
    const input = form.elements[name];
    if (input.validity.badInput) {
      throw new Problem({ code: "invalid_request", field: name, detail: "That is not a number." });
    }
    const value = name === "prompt" ? input.value : input.value.trim();
    // An empty prompt is sent: the service says what is wrong with it.
    if (value !== "" || name === "prompt") request[name] = NUMBERS.includes(name) ? Number(value) : value;
  }
  const beginning = await picture.value();
  if (beginning) request.init_image = beginning;
  else delete request.strength;
  return request;
}

/** The settings of a job, ready to be changed a little. */
export function fill(job) {
  for (const name of FIELDS) form.elements[name].value = job.request[name] ?? "";
  form.elements.seed.value = job.seed;
  for (const name of ["num_images", "clip_skip"]) {
    if (job.request[name] === 1) form.elements[name].value = "";
  }
  picture.again(job);
  advanced.open = true;
  settings();
  form.elements.prompt.focus();
}

export function clearErrors() {
  for (const error of form.querySelectorAll(".error")) error.hidden = true;
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

export function complain(problem) {
  clearErrors();
  const known = FIELDS.includes(problem.field) || problem.field === "init_image";
  const place = known ? document.getElementById(`${problem.field}-error`) : formError;
  const accepted = Array.isArray(problem.accepted) ? problem.accepted.join(", ") : problem.accepted;
  place.textContent = accepted ? `${problem.message} Right would be: ${accepted}.`.replace("..", ".") : problem.message;
  place.hidden = false;
  if (!known) return;
  const input = form.elements[problem.field];
  const folded = input.closest("details");
  if (folded) folded.open = true;
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

export function offer({ models, samplers, schedules }) {
  catalogue = models;
  const usable = models.filter((model) => model.refusal === null);
  form.elements.model.replaceChildren(
    ...usable.map((model) => new Option(model.title, model.default ? "" : model.name)),
  );
  form.elements.sampler.replaceChildren(
    new Option("", ""),
    ...samplers.map((name) => new Option(name, name)),
  );
  form.elements.schedule.replaceChildren(
    new Option("the sampler's own", ""),
    ...schedules.map((name) => new Option(name, name)),
  );
  settings();
}

/** Shows the chosen model's own settings where a field is empty. */
function settings() {
  const chosen = form.elements.model.value;
  const model = catalogue.find((one) => (chosen ? one.name === chosen : one.default));
  if (!model) return;
  for (const name of DEFAULTS) form.elements[name].placeholder = model.defaults[name];
  form.elements.sampler.options[0].text = `${model.defaults.sampler}, the model's own`;
  document.getElementById("model-about").textContent = model.description;
}

export function onSubmit(submit) {
  const button = form.querySelector("button.main");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    clearErrors();
    button.disabled = true;
    try {
      await submit(await read());
    } catch (problem) {
      complain(problem);
    } finally {
      button.disabled = false;
    }
  });
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.elements.model.addEventListener("change", settings);
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of FIELDS.filter((field) => field !== "prompt")) form.elements[name].value = "";
    picture.clear();
    clearErrors();
    settings();
  });
}
