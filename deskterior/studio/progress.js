// A makeover as it goes on: its stages, how far it is, how long it has taken, and how it ended.

import { announce, el, fill, icon } from "./dom.js";
import { describe } from "./problem.js";
import { Problem, ended } from "./api.js";
import { current, dollars, onLanguage, seconds, t } from "./words.js";

const STAGES = ["describe", "render", "shop", "publish"];

export class Progress {
  #place;
  #task = null;
  #stages = new Map(); // stage -> {state, from, to}
  #steps = null; // of a drawing by our own model
  #lost = false;
  #cancelling = false;
  #timer = 0;
  #act;

  /** `act` has what the buttons do, `cancel(task)` and `retry(task)`, and `link(task)` to its picture. */
  constructor(place, act) {
    this.#place = place;
    this.#act = act;
    onLanguage(() => this.#task && this.#draw());
  }

  /** Show a task from its beginning. */
  begin(task) {
    this.#stages.clear();
    this.#steps = null;
    this.#lost = this.#cancelling = false;
    this.#place.hidden = false;
    this.look(task);
    clearInterval(this.#timer);
    if (!ended(task)) this.#timer = setInterval(() => this.#tick(), 1000);
  }

  clear() {
    clearInterval(this.#timer);
    this.#task = null;
    this.#place.hidden = true;
    this.#place.replaceChildren();
  }

  /** What a look at the task gave. */
  look(task) {
    const before = this.#task;
    this.#task = task;
    if (ended(task)) {
      clearInterval(this.#timer);
      this.#cancelling = this.#lost = false;
      if (before?.id === task.id && !ended(before)) announce(this.#title());
    }
    this.#draw();
  }

  /** An event of `follow`. */
  hear({ name, data }) {
    this.#lost = name === "lost";
    if (name === "opened") this.#stages.clear(); // told again from the start
    if (name === "stage") this.#stage(data);
    if (name === "progress") {
      this.#steps = data;
      this.#task = { ...this.#task, progress: Math.max(this.#task.progress, data.progress) };
    }
    if (name !== "opened") this.#draw();
  }

  cancelling() {
    this.#cancelling = true;
    this.#draw();
  }

  #stage({ stage, state, at }) {
    const known = this.#stages.get(stage);
    const now = Date.parse(at);
    if (state === "started") {
      this.#stages.set(stage, { state, from: now });
      if (STAGES.includes(stage) && Date.now() - now < 10_000) announce(t(stage));
    } else {
      this.#stages.set(stage, { ...known, state, to: now });
    }
    if (stage === "render" && state !== "started") this.#steps = null;
    this.#task = { ...this.#task, status: "running" };
  }

  #title() {
    const { status, created_at: from, finished_at: to } = this.#task;
    if (status === "succeeded") return t("doneIn", { time: seconds((Date.parse(to) - Date.parse(from)) / 1000) });
    if (status === "failed") return t("failed");
    if (status === "cancelled") return t("cancelled");
    if (this.#cancelling) return t("cancelling");
    return t(status === "queued" ? "queued" : "working");
  }

  #tick() {
    const at = this.#place.querySelector(".elapsed");
    if (at) at.textContent = seconds(Math.max(0, Math.round((Date.now() - Date.parse(this.#task.created_at)) / 1000)));
  }

  #draw() {
    const focused = this.#place.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    const task = this.#task;
    const over = ended(task);
    this.#place.dataset.status = task.status;
    fill(this.#place,
      el("div", { class: "panel-head" }, el("h2", { id: "progress-title", tabindex: "-1", "data-action": "title" }, this.#title()),
        over ? null : el("span", { class: "elapsed" })),
      task.status !== "succeeded" && el("progress", { max: "1", value: String(task.progress), "aria-labelledby": "progress-title",
        class: over ? "" : "alive" }),
      task.status !== "succeeded" && this.#list(over),
      task.error ? describe(new Problem({ ...task.error, request_id: task.error.request_id })) : null,
      task.status === "cancelled" && el("p", { class: "hint" }, t("cancelledTip")),
      this.#lost && !over && el("p", { class: "hint" }, t("reconnecting")),
      !over && el("p", { class: "hint" }, t("leave")),
      task.cost.total > 0 && over && cost(task.cost),
      task.warnings.length > 0 && el("details", { class: "notes" }, el("summary", {}, t("notes")),
        el("ul", {}, task.warnings.map((warning) => el("li", { lang: "en" }, warning)))),
      this.#buttons(over),
    );
    this.#tick();
    if (focused) this.#place.querySelector(`[data-action="${focused}"]`)?.focus({ preventScroll: true });
  }

  #list(over) {
    return el("ol", { class: "stages" }, STAGES.map((stage) => {
      const { state, from, to } = this.#stages.get(stage) ?? { state: "waiting" };
      const steps = stage === "render" && this.#steps && state === "started" ? this.#steps : null;
      const told = state === "interrupted" ? t("interrupted") : steps ? t("steps", steps) : to ? seconds((to - from) / 1000) : "";
      const stopped = over && state === "started";
      const mark = { done: "check", failed: "cross" }[state];
      return el("li", { "data-state": stopped ? "waiting" : state, "aria-current": state === "started" && !over ? "step" : null },
        el("span", { class: "mark" }, mark && icon(mark)), el("span", {}, t(stage)), el("span", { class: "told" }, told));
    }));
  }

  #buttons(over) {
    const { status } = this.#task;
    if (!over) {
      return el("div", { class: "buttons" }, el("button", { type: "button", class: "button plain", "data-action": "cancel",
        disabled: this.#cancelling, onclick: () => this.#act.cancel(this.#task) }, t("cancel")));
    }
    if (status === "succeeded") return this.#act.link(this.#task);
    return el("div", { class: "buttons" }, el("button", { type: "button", class: "button plain", "data-action": "retry",
      onclick: () => this.#act.retry(this.#task) }, t("goOn")));
  }
}

function cost({ total, items }) {
  return el("details", { class: "notes" }, el("summary", {}, `${t("cost")} `, el("b", {}, dollars(total))),
    el("ul", { lang: current() }, items.map((item) => el("li", {}, el("span", { lang: "en" }, `${item.what} · ${item.model}`),
      el("span", { class: "told" }, dollars(item.usd))))));
}
