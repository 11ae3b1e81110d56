// The picture to begin with: a file that was chosen or dropped, or one that was drawn here.

import * as api from "./api.js";

const form = document.getElementById("ask");
const place = document.getElementById("beginning");
const input = document.getElementById("init_image");
const shown = place.querySelector("img");

/** What the request says of it, or null. It is a promise while the file is read. */
let chosen = null;

export const value = async () => chosen;

export function clear() {
  chosen = null;
  input.value = "";
  shown.removeAttribute("src");
  for (const part of place.querySelectorAll(".chosen")) part.hidden = true;
}

/** A stored picture of a job. */
export function begin(job, image) {
  input.value = "";
  const told = { job: job.id, index: image.index };
  choose(told, "");
  showLater(told, api.address(image.url));
}

/** What a job began with, if it did. */
export async function again(job) {
  clear();
  const brought = job.request.init_image;
  if (!brought) return;
  take(api.file(brought.url));
}

function choose(told, url) {
  chosen = told;
  shown.src = url;
  for (const part of place.querySelectorAll(".chosen")) part.hidden = false;
  place.open = true;
}

/** The page may show data URLs, and the service reads them. */
function asText(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

/** A file, or the promise of one. */
function take(file) {
  const text = Promise.resolve(file).then(asText);
  choose(text, "");
  showLater(text, text);
}

/** Shows what was chosen, unless another was chosen meanwhile. */
async function showLater(told, address) {
  try {
    const url = await address;
    if (chosen === told) shown.src = url;
  } catch {
    if (chosen === told) clear();
  }
}

input.addEventListener("change", () => (input.files.length ? take(input.files[0]) : clear()));
document.getElementById("without").addEventListener("click", () => {
  clear();
  input.focus();
});
form.addEventListener("dragover", (event) => event.preventDefault());
form.addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) take(file);
});
