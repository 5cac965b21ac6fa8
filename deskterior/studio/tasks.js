// The makeovers so far, newest first, and what can be done with each.

import { call, ended } from "./api.js";
import { $, announce, el, icon, web } from "./dom.js";
import { Notice } from "./problem.js";
import { dollars, moment, onLanguage, percent, t } from "./words.js";

const FIRST = 6;
const MORE = 12;
const MOST = 100; // the service's own limit of a page
const EVERY_MS = 4000;

export class Tasks {
  #notice = new Notice($("tasks-problem"));
  #rows = new Map(); // id -> {told, row}
  #limit = FIRST;
  #timer = 0;
  #act;
  #last = [];
  #turn = 0; // an answer that comes after a later one is no news

  /** `act` has `open(task)`, `changed(task)` after a cancel or retry from here, and `gone(id)` after a delete. */
  constructor(act) {
    this.#act = act;
    $("tasks-refresh").addEventListener("click", () => this.refresh());
    $("tasks-more").addEventListener("click", () => {
      this.#limit = Math.min(MOST, this.#limit + MORE);
      this.refresh();
    });
    onLanguage(() => {
      this.#rows.clear();
      this.#draw(this.#last);
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.#again(this.#last));
  }

  async refresh({ quietly = false } = {}) {
    clearTimeout(this.#timer);
    const turn = (this.#turn += 1);
    try {
      const { body } = await call(`tasks?limit=${this.#limit}`);
      if (turn !== this.#turn) return;
      this.#notice.clear();
      $("tasks-more").hidden = !body.next_cursor || this.#limit >= MOST;
      $("tasks-none").hidden = body.tasks.length > 0;
      this.#draw(body.tasks);
      this.#again(body.tasks);
    } catch (problem) {
      if (!quietly) this.#notice.show(problem, () => this.refresh());
    }
  }

  /** Look again by itself while something runs that is listed, and somebody sees it. */
  #again(tasks) {
    clearTimeout(this.#timer);
    if (!document.hidden && tasks.some((task) => !ended(task))) {
      this.#timer = setTimeout(() => this.refresh({ quietly: true }), EVERY_MS);
    }
  }

  #draw(tasks) {
    this.#last = tasks;
    const at = document.activeElement;
    const focused = at?.closest?.(".task") && { id: at.closest(".task").dataset.id, action: at.dataset.action };
    const rows = tasks.map((task) => {
      const told = JSON.stringify([task.status, task.progress, task.result?.processed_image_url, task.cost.total]);
      const known = this.#rows.get(task.id);
      if (known?.told === told) return known;
      return { id: task.id, told, row: this.#row(task) };
    });
    this.#rows = new Map(rows.map((made, index) => [tasks[index].id, made]));
    $("tasks").replaceChildren(...rows.map((made) => made.row));
    if (focused) $("tasks").querySelector(`[data-id="${CSS.escape(focused.id)}"] [data-action="${focused.action}"]`)?.focus();
  }

  #row(task) {
    const picture = task.result && web(task.result.processed_image_url);
    const thumb = el("img", { class: "task-picture", alt: "", loading: "lazy", decoding: "async", referrerpolicy: "no-referrer",
      src: picture || `studio/concepts/${task.concept.toLowerCase()}.svg`, width: "96", height: "72" });
    thumb.addEventListener("error", () => (thumb.src = `studio/concepts/${task.concept.toLowerCase()}.svg`), { once: true });
    const name = `${t(task.concept)} · ${moment(task.created_at)}`;
    const button = (action, words, run, ...inside) => el("button", { type: "button", class: "quiet", "data-action": action,
      "aria-label": `${words}: ${name}`, onclick: run }, ...inside, el("span", {}, words));
    return el("li", { class: "task", "data-id": task.id, "data-status": task.status }, thumb,
      el("div", { class: "task-words" },
        el("p", { class: "task-name" }, t(task.concept), task.kind === "v2" && el("span", { class: "task-kind" }, t("v2"))),
        el("p", { class: "hint" }, el("time", { datetime: task.created_at }, moment(task.created_at)),
          task.cost.total > 0 && ` · ${dollars(task.cost.total)}`),
        el("p", { class: "badge" }, t(`status.${task.status}`), task.status === "running" && ` ${percent(task.progress)}`)),
      el("div", { class: "task-buttons" },
        button("open", t("open"), () => this.#act.open(task)),
        !ended(task) && button("cancel", t("cancel"), () => this.#post(task, "cancel")),
        ["failed", "cancelled"].includes(task.status) && button("retry", t("retry"), () => this.#post(task, "retry")),
        ended(task) && button("delete", t("delete"), () => this.#delete(task), icon("bin"))));
  }

  async #post(task, action) {
    try {
      const { body } = await call(`tasks/${task.id}/${action}`, { method: "POST" });
      this.#act.changed(body, action);
      await this.refresh();
    } catch (problem) {
      await this.refresh({ quietly: true });
      this.#notice.show(problem);
    }
  }

  async #delete(task) {
    if (!(await sure())) return;
    try {
      await call(`tasks/${task.id}`, { method: "DELETE" });
      announce(t("deleted"));
      this.#act.gone(task.id);
      await this.refresh();
      $("tasks-refresh").focus();
    } catch (problem) {
      this.#notice.show(problem);
    }
  }
}

function sure() {
  const dialog = $("delete-dialog");
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    $("delete-yes").onclick = () => dialog.close("yes");
    $("delete-no").onclick = () => dialog.close("");
    dialog.showModal();
    $("delete-no").focus();
  });
}
