// The service, as the page calls it: relative addresses, the key, one kind of error, and a task as it goes on.

import { pause } from "./dom.js";

const ROOT = new URL("..", import.meta.url); // wherever a gateway has put the service
const KEPT = "deskterior.key";
const SILENT_MS = 40_000; // the service says something every 15 s
const ENDED = ["succeeded", "failed", "cancelled"];

/** What went wrong: an RFC 9457 problem, or one of the page's own (`offline`, `unexpected`, `upload-failed`). */
export class Problem extends Error {
  constructor({ type = "", title = "", status = 0, detail = "", request_id = "", retryAfter = 0 }) {
    super(detail || title);
    Object.assign(this, { slug: String(type).replace(/^.*\//, ""), title, status, detail, retryAfter });
    this.requestId = request_id ?? "";
  }

  /** Whether the very same request can do better later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** The API key: in this tab, until it is closed. */
export const key = {
  get: () => read() ?? "",
  set(value) {
    remembered = value;
    try {
      value ? sessionStorage.setItem(KEPT, value) : sessionStorage.removeItem(KEPT);
    } catch {
      // then it holds until the page is left
    }
  },
  /** Asks the person for a key, given the problem; true when there is a new one. The page sets it. */
  ask: async () => false,
};
let remembered = "";
function read() {
  try {
    return sessionStorage.getItem(KEPT) ?? remembered;
  } catch {
    return remembered;
  }
}

export const ended = (task) => ENDED.includes(task.status);

/** Ask the service. Gives `{body, headers}`; raises Problem. A 401 asks for a key, and then the service once more. */
export async function call(path, { method = "GET", json, headers = {}, signal } = {}) {
  const answer = await ask(path, { method, json, headers, signal });
  try {
    return { body: answer.status === 204 ? null : await answer.json(), headers: answer.headers };
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ type: "unexpected", status: 0 });
  }
}

async function ask(path, { method = "GET", json, headers = {}, signal }) {
  for (;;) {
    const used = key.get();
    const sent = { ...headers, ...(used && { "X-API-Key": used }), ...(json && { "Content-Type": "application/json" }) };
    const body = json && JSON.stringify(json);
    const answer = await reach(new URL(path, ROOT), { method, headers: sent, body, signal, cache: "no-store" });
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    const changed = used !== key.get(); // somebody has given one meanwhile
    if (problem.status !== 401 || !(changed || (await key.ask(problem, used)))) throw problem;
  }
}

async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem({ type: "offline" });
  }
}

async function problemOf(answer) {
  const retryAfter = waitOf(answer.headers.get("Retry-After"));
  try {
    const said = await answer.json();
    return new Problem({ type: "unexpected", ...said, status: answer.status, retryAfter });
  } catch {
    return new Problem({ type: "unexpected", status: answer.status, retryAfter });
  }
}

/** Seconds of a `Retry-After`: a number, or a date. */
function waitOf(header) {
  if (!header) return 0;
  const wait = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(0, Math.ceil(wait)) : 0;
}

/** Upload a photo; gives the address that it then has. The key goes to the service alone, never to the store. */
export async function upload(photo, type, signal) {
  const { body: place } = await call("uploads", { method: "POST", json: { content_type: type, size: photo.size }, signal });
  let answer;
  try {
    answer = await fetch(place.upload_url, { method: place.method, headers: place.headers, body: photo, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ type: "upload-failed" });
  }
  if (answer.ok) return place.image_url;
  const problem = await problemOf(answer);
  throw problem.slug === "unexpected" ? new Problem({ type: "upload-failed", status: answer.status }) : problem;
}

/**
 * A task as it goes on, until it has ended: `{name, data}` with `stage` and `progress` as the service tells them,
 * `opened` before each telling from the start, `lost` when the connection broke, `task` for a look in between, and at
 * last `done`. Raises Problem where looking again is of no use.
 */
export async function* follow(id, signal) {
  for (let broken = 0; ; broken += 1) {
    let wait = Math.min(5, 2 ** broken);
    try {
      for await (const event of stream(id, signal)) {
        yield event;
        if (event.name === "done") return;
      }
      yield { name: "lost" };
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && !error.passing)) throw error;
      wait = Math.max(wait, error.retryAfter ?? 0);
      yield { name: "lost", problem: error };
    }
    // No stream gets through, or none for long: looking is the other way.
    await pause(wait * 1000, signal);
    try {
      const { body: task } = await call(`tasks/${id}`, { signal });
      yield { name: ended(task) ? "done" : "task", data: task };
      if (ended(task)) return;
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && !error.passing)) throw error;
    }
  }
}

/** The events of one connection. `fetch` and not EventSource, which cannot send a key. */
async function* stream(id, signal) {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  let timer = setTimeout(() => silence.abort(), SILENT_MS);
  try {
    const answer = await ask(`tasks/${id}/events`, { headers: { Accept: "text/event-stream" }, signal: either });
    yield { name: "opened" };
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_MS);
      const blocks = (text + value).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    silence.abort(); // lets go of the connection
  }
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return data.length ? { name, data: JSON.parse(data.join("\n")) } : null;
}

/** A key for a request that must not be done twice. (`crypto.randomUUID` is missing where there is no https.) */
export const onceKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-");
