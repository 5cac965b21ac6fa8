// A problem in words for people: what it means, what to do, and what the service itself says of it.

import { el, icon } from "./dom.js";
import { onLanguage, problemWords, seconds, t } from "./words.js";

export class Notice {
  #place;
  #shown = null;
  #timer = 0;

  constructor(place) {
    this.#place = place;
    onLanguage(() => this.#shown && this.#draw());
  }

  /** `again` is called by the button to try again; it waits for as long as the service asks to. */
  show(problem, again = null, label = "tryAgain") {
    this.#shown = { problem, again, label, free: Date.now() + problem.retryAfter * 1000 };
    this.#draw();
  }

  clear() {
    clearInterval(this.#timer);
    this.#shown = null;
    this.#place.replaceChildren();
  }

  #draw() {
    clearInterval(this.#timer);
    const { problem, again, label, free } = this.#shown;
    const buttons = el("div", { class: "buttons" });
    if (again || problem.retryAfter) {
      const button = el("button", { type: "button", class: "button plain" });
      button.addEventListener("click", () => (this.clear(), again?.()));
      const tick = () => {
        const left = Math.ceil((free - Date.now()) / 1000);
        button.disabled = left > 0;
        button.textContent = left > 0 ? t("tryAgainIn", { time: seconds(left) }) : t(label);
        if (left <= 0) clearInterval(this.#timer);
        if (left <= 0 && !again) button.remove();
      };
      this.#timer = setInterval(tick, 250);
      tick();
      buttons.append(button);
    }
    buttons.append(el("button", { type: "button", class: "quiet", onclick: () => this.clear() }, t("dismiss")));
    this.#place.replaceChildren(el("div", { class: "notice" }, describe(problem), buttons));
  }
}

/** A problem's words alone, read out at once. */
export function describe(problem) {
  const [title, advice] = problemWords(problem.slug) ?? [problem.title || problemWords("unexpected")[0], ""];
  return el(
    "div",
    { class: "problem", role: "alert" },
    el("p", { class: "problem-title" }, icon("cross"), el("strong", {}, title)),
    advice && el("p", {}, advice),
    problem.detail && el("p", { class: "said" }, el("span", {}, t("saidBy")), " ", el("q", { lang: "en" }, problem.detail)),
    problem.requestId && el("p", { class: "said" }, el("span", {}, t("request")), " ", el("code", {}, problem.requestId)),
  );
}
