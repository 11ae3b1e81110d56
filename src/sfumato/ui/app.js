// The page: a form, and the jobs it made, newest first.

import * as api from "./api.js";
import { Card } from "./card.js";
import * as form from "./form.js";
import * as key from "./key.js";
import * as picture from "./picture.js";
import { Watcher } from "./watch.js";

const list = document.getElementById("jobs");
const empty = document.getElementById("empty");
const older = document.getElementById("older");
const announcement = document.getElementById("announcement");
const cards = new Map();
let cursor = null;

const watcher = new Watcher(
  (job) => show(job),
  (id, kind, data) => cards.get(id)?.tell(kind, data),
);

function show(job, { place = "prepend" } = {}) {
  let card = cards.get(job.id);
  const before = card?.job.status;
  if (!card) {
    card = new Card({ onCancel: cancel, onReuse: form.fill, onBegin: picture.begin });
    cards.set(job.id, card);
    list[place](card.element);
  }
  card.show(job);
  empty.hidden = true;
  if (before && before !== job.status) {
    announcement.textContent = `${job.request.prompt}: ${job.status}${job.error ? `, ${job.error.message}` : ""}`;
  }
  if (!job.finished_at) watcher.follow(job.id);
}

async function cancel(job) {
  try {
    show(await api.cancel(job.id));
  } catch (problem) {
    cards.get(job.id).complain(problem);
  }
}

async function more() {
  const page = await api.jobs(cursor);
  for (const job of page.jobs) show(job, { place: "append" });
  cursor = page.next;
  older.hidden = cursor === null;
  empty.hidden = cards.size > 0;
}

form.onSubmit(async (request) => {
  const job = await api.submit(request);
  show(job);
  announcement.textContent = `${job.request.prompt}: ${job.status}`;
});

older.addEventListener("click", () => more().catch(form.complain));

async function begin() {
  try {
    const [offered] = await Promise.all([api.models(), more()]);
    form.offer(offered);
  } catch (problem) {
    if (problem.code !== "unauthorized") form.complain(problem);
  }
}

key.onTyped(() => {
  // Another key may see other jobs.
  watcher.forgetAll();
  cards.clear();
  list.replaceChildren();
  cursor = null;
  form.clearErrors();
  begin();
});

begin();
