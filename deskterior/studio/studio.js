// The studio: from a photo to a verdict, a style, a makeover under way and its result. The parts are drawn elsewhere.

import { Problem, call, ended, follow, onceKey, upload } from "./api.js";
import { $, announce, el, icon, web } from "./dom.js";
import { keys } from "./key.js";
import { intake, typeOf } from "./photo.js";
import { Notice } from "./problem.js";
import { Progress } from "./progress.js";
import { Result } from "./result.js";
import { Tasks } from "./tasks.js";
import { bytes, current, onLanguage, percent, speak, t, translate } from "./words.js";

const notice = new Notice($("problem"));
const result = new Result();
const progress = new Progress($("progress"), { cancel, retry, link: Result.link });
const tasks = new Tasks({
  open,
  changed: (task, action) => (task.id === state.task?.id ? action === "retry" && watch(task) : action === "retry" && open(task)),
  gone: (id) => id === state.task?.id && startOver(),
});

/** `photo`: {url, shown, blob}; `url` is what the service calls it, `shown` where this browser has it. */
const state = { photo: null, doing: "", verdict: null, score: null, task: null, info: null, starting: false };
let underWay = new AbortController(); // whatever is done with the photo and task on show
let once = null; // the key of a start that may or may not have arrived

// --- a photo comes in

async function takeFile(file) {
  const signal = begin({ shown: URL.createObjectURL(file), blob: true });
  await attempt(signal, () => takeFile(file), async () => {
    const type = await typeOf(file, state.info?.limits.photo_max_bytes);
    doing("uploading");
    state.photo.url = await upload(file, type, signal);
    await look(signal);
  });
}

async function takeAddress(address) {
  const signal = begin({ shown: address, url: address });
  await attempt(signal, () => takeAddress(address), () => look(signal));
}

/** Ask whether it is a desk. Where a desk starts a makeover by itself (`ON_DESK`), that one is followed. */
async function look(signal) {
  doing("looking");
  const json = { initial_image_url: state.photo.url, concept: wish().concept };
  const { body, headers } = await call("classify", { method: "POST", json, signal });
  if (signal.aborted) return;
  const score = headers.get("X-Desk-Score");
  Object.assign(state, { doing: "", verdict: body.classify, score: score === null ? null : Number(score) });
  $("address").value = ""; // until now it may need to be mended
  announce(t(body.classify ? "isDesk" : "notDesk"));
  draw();
  const started = headers.get("X-Task-ID");
  if (started) await watch((await call(`tasks/${encodeURIComponent(started)}`, { signal })).body);
}

function begin({ shown, url = "", blob = false }) {
  underWay.abort();
  underWay = new AbortController();
  if (state.photo?.blob) URL.revokeObjectURL(state.photo.shown);
  Object.assign(state, { photo: { shown, url, blob }, doing: "", verdict: null, score: null, task: null, starting: false });
  once = null;
  notice.clear();
  progress.clear();
  result.clear();
  remember(null);
  $("shown-missing").hidden = true;
  $("shown-photo").hidden = false;
  $("shown-photo").src = blob ? shown : web(shown) || "data:,";
  draw();
  return underWay.signal;
}

function startOver() {
  underWay.abort();
  if (state.photo?.blob) URL.revokeObjectURL(state.photo.shown);
  Object.assign(state, { photo: null, doing: "", verdict: null, score: null, task: null, starting: false });
  once = null;
  notice.clear();
  progress.clear();
  result.clear();
  remember(null);
  draw();
  $("choose").focus();
}

// --- a makeover

const wish = () => {
  const given = new FormData($("wish"));
  return { concept: given.get("concept"), model: $("models").hidden ? "v1" : given.get("model") };
};

async function start() {
  const { concept, model } = wish();
  const body = JSON.stringify([state.photo.url, concept, model]);
  if (once?.body !== body) once = { body, key: onceKey() };
  state.starting = true;
  notice.clear();
  draw();
  const { signal } = underWay;
  await attempt(signal, start, async () => {
    const json = { image_url: state.photo.url, concept };
    const headers = { Prefer: "respond-async", "Idempotency-Key": once.key };
    const { body: task } = await call(`${model}/generate`, { method: "POST", json, headers, signal });
    once = null; // the next press is another makeover
    tasks.refresh({ quietly: true });
    await watch(task);
  });
  state.starting = false;
  draw();
}

/** Show a task, and follow it to its end. */
async function watch(task) {
  underWay.abort();
  underWay = new AbortController();
  const { signal } = underWay;
  Object.assign(state, { task, starting: false });
  remember(task.id);
  notice.clear();
  result.clear();
  progress.begin(task);
  draw();
  $("progress-title").focus({ preventScroll: true });
  if (matchMedia("(max-width: 60rem)").matches) $("progress").scrollIntoView({ block: "nearest" });
  if (ended(task)) return finish(task);
  await attempt(signal, () => open(task), async () => {
    let looking = false;
    for await (const event of follow(encodeURIComponent(task.id), signal)) {
      if (signal.aborted) return;
      if (event.name === "done") return finish(event.data);
      if (event.name === "task") progress.look((state.task = event.data));
      else progress.hear(event);
      if (event.name !== "stage" || looking) continue;
      looking = true; // how far it is, only the task says
      call(`tasks/${encodeURIComponent(task.id)}`, { signal })
        // The end may have come meanwhile, and this be older.
        .then(({ body }) => signal.aborted || ended(state.task) || ended(body) || progress.look((state.task = body)))
        .catch(() => {}) // the next event, or the end, tells it
        .finally(() => (looking = false));
    }
  });
}

function finish(task) {
  state.task = task;
  progress.look(task);
  if (task.result) result.show(task, state.photo.shown);
  draw();
  tasks.refresh({ quietly: true });
}

async function cancel(task) {
  progress.cancelling();
  await attempt(underWay.signal, () => cancel(task), () => call(`tasks/${encodeURIComponent(task.id)}/cancel`, { method: "POST" }));
}

async function retry(task) {
  await attempt(underWay.signal, () => retry(task), async () => {
    const { body } = await call(`tasks/${encodeURIComponent(task.id)}/retry`, { method: "POST" });
    await watch(body);
  });
}

/** Show a task of the list, with its photo. */
async function open(listed) {
  const ours = state.photo?.url === listed.initial_image_url;
  const { shown, blob } = ours ? state.photo : { shown: listed.initial_image_url, blob: false };
  if (!ours) begin({ shown, url: listed.initial_image_url, blob });
  underWay.abort();
  underWay = new AbortController();
  const { signal } = underWay;
  Object.assign(state, { verdict: true, doing: "" });
  for (const radio of $("wish").elements.concept) radio.checked = radio.value === listed.concept;
  scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  await attempt(signal, () => open(listed), async () => {
    const { body } = await call(`tasks/${encodeURIComponent(listed.id)}`, { signal }); // its links may have expired in the list
    await watch(body);
  });
}

// --- what is on show

function doing(what) {
  state.doing = what;
  announce(t(what));
  draw();
}

function draw() {
  const { photo, verdict, task, starting } = state;
  const running = task !== null && !ended(task);
  const made = Boolean(task?.result);
  document.body.dataset.phase = running ? "running" : made ? "done" : photo ? "photo" : "empty";
  $("intro").classList.toggle("unseen", photo !== null);
  $("drop").hidden = photo !== null;
  $("shown").hidden = photo === null || made;
  $("shown").classList.toggle("alive", running || state.doing !== "");
  $("shown-photo").alt = t("photoAlt");
  $("shown-missing").textContent = t(photo?.blob ? "noPreview" : "noPhoto");
  $("under").hidden = photo === null;
  drawVerdict();
  $("wish").hidden = running;
  $("wish-title").textContent = t(made ? "anotherConcept" : "concept");
  $("start").disabled = verdict !== true || starting || running;
  $("start").textContent = t(starting ? "starting" : "start");
  const why = verdict === true ? "" : verdict === false ? "startNot" : state.doing ? "startWait" : "startFirst";
  $("start-why").textContent = why && t(why);
  const most = state.info?.limits.photo_max_bytes;
  $("formats").textContent = most ? t("formats", { size: bytes(most) }) : "";
  drawInfo();
}

function drawVerdict() {
  const { doing: what, verdict, score } = state;
  const place = $("verdict");
  place.dataset.verdict = verdict === null ? what && "waiting" : verdict ? "desk" : "none";
  if (verdict === null) return place.replaceChildren(what ? t(what) : "");
  const sure = score === null ? "" : t("sure", { percent: percent(Math.floor(100 * (verdict ? score : 1 - score)) / 100) });
  const words = [t(verdict ? "isDesk" : "notDesk"), sure].filter(Boolean).join(" · ");
  const tip = el("small", {}, verdict ? "" : t("notDeskTip"));
  place.replaceChildren(icon(verdict ? "check" : "cross"), el("span", {}, words), tip);
}

function drawInfo() {
  if (!state.info) return;
  $("version").textContent = `Deskterior ${state.info.version}`;
  const played = Object.entries(state.info.providers).filter(([, provider]) => provider.sandbox);
  const names = new Intl.ListFormat(current()).format(played.map(([name]) => t(`sandbox.${name}`)));
  $("sandbox").textContent = played.length ? t("sandbox", { names }) : "";
  $("models").hidden = !state.info.drawing?.versions.some((version) => version.active && !version.problem);
}

/** Do something; what goes wrong is shown, with a button to do it again where that can help. */
async function attempt(signal, again, run) {
  try {
    await run();
  } catch (error) {
    if (signal.aborted && !(error instanceof Problem)) return;
    if (!(error instanceof Problem)) console.error(error);
    state.doing = "";
    const problem = error instanceof Problem ? error : new Problem({ type: "unexpected" });
    notice.show(problem, problem.passing || problem.status === 401 ? again : null);
    draw();
  }
}

// --- beginning

const REMEMBERED = /^#task=([\w-]{8,64})$/;

/** A page that is loaded again shows the task that it showed. */
function remember(id) {
  history.replaceState(null, "", id ? `#task=${id}` : location.pathname + location.search);
}

async function load() {
  const [, shown] = REMEMBERED.exec(location.hash) ?? [];
  try {
    state.info = (await call("info")).body;
  } catch (problem) {
    return notice.show(problem, load); // what else is asked for would fail as well
  }
  draw();
  tasks.refresh();
  if (shown && !state.photo) {
    await attempt(underWay.signal, load, async () => open((await call(`tasks/${shown}`)).body));
  }
}

translate(document);
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => speak(button.dataset.language));
}
const mark = () => {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === current()));
  }
};
onLanguage(mark);
onLanguage(draw);
mark();
keys(load);
intake({ onFile: takeFile, onAddress: takeAddress, free: () => state.task === null || ended(state.task) });
$("shown-photo").addEventListener("error", () => {
  if (!state.photo) return;
  $("shown-photo").hidden = true;
  $("shown-missing").hidden = false;
});
$("another").addEventListener("click", startOver);
$("wish").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("start").disabled) start();
});
draw();
load();
