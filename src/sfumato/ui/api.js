// The native API. Seeds are texts here: a number of JavaScript can't hold 64 bits.

import * as key from "./key.js";

export class Problem extends Error {
  constructor({ detail, code, field = null, accepted = null }) {
    super(detail);
    Object.assign(this, { code, field, accepted });
  }
}

/** JSON with every long seed left as its digits. */
export function parse(text) {
  // A quote inside a JSON text is escaped, so this matches keys only.
  return JSON.parse(text.replace(/"seed":\s*(\d{16,})/g, '"seed":"$1"'));
}

/** fetch, with the key where there is one. Every path is this service's own. */
export function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.current()) headers.set("Authorization", `Bearer ${key.current()}`);
  return fetch(path, { ...options, headers });
}

async function call(path, options) {
  let response;
  try {
    response = await ask(path, options);
  } catch {
    throw new Problem({ code: "unreachable", detail: "The service does not answer. What you typed is kept; try again in a moment." });
  }
  const text = await response.text();
  let body;
  try {
    body = parse(text);
  } catch {
    throw new Problem({ code: "unreadable", detail: `The service answered ${response.status}, but not as expected.` });
  }
  if (response.status === 401) key.ask(key.current() ? body.detail : "This service asks for a key.");
  if (!response.ok) throw new Problem(body);
  return body;
}

export function submit(request) {
  return call("/v1/jobs", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
  });
}

export const job = (id) => call(`/v1/jobs/${id}`);
export const jobs = (cursor) => call(`/v1/jobs?limit=20${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
export const cancel = (id) => call(`/v1/jobs/${id}/cancel`, { method: "POST" });
export const models = () => call("/v1/models");

/** The file of a picture. */
export async function file(url) {
  const response = await ask(url);
  if (!response.ok) throw new Problem({ code: "unreadable", detail: `The picture can't be read (${response.status}).` });
  return response.blob();
}

/** An address that the page may show a picture from: an <img> can't send the key. */
export const address = async (url) => (key.current() ? URL.createObjectURL(await file(url)) : url);
