// What the page says, in the language that was chosen, and how that language writes numbers, money and times.

import en from "./words-en.js";
import ko from "./words-ko.js";

const LANGUAGES = { en, ko };
const KEPT = "deskterior.language";
const listeners = [];
let language = kept() ?? (navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en");

function kept() {
  try {
    const found = localStorage.getItem(KEPT);
    return found in LANGUAGES ? found : null;
  } catch {
    return null; // a browser that keeps nothing
  }
}

export const current = () => language;

/** Call `redraw` whenever the language changes. */
export const onLanguage = (redraw) => listeners.push(redraw);

export function speak(chosen) {
  language = chosen;
  try {
    localStorage.setItem(KEPT, chosen);
  } catch {
    // then it holds for this visit
  }
  translate(document);
  for (const redraw of listeners) redraw();
}

/** The words under `key`, with `{name}` filled in. */
export function t(key, values = {}) {
  return LANGUAGES[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Title and advice for a problem of this slug; null for one that the page does not know. */
export const problemWords = (slug) => {
  const key = `problem.${slug}`;
  return Object.hasOwn(LANGUAGES[language], key) ? LANGUAGES[language][key] : null;
};

/** Put words where the page says which: `data-text` for the text, `data-label` and `data-hint` for attributes. */
export function translate(root) {
  document.documentElement.lang = language;
  document.title = t("title");
  for (const at of root.querySelectorAll("[data-text]")) at.textContent = t(at.dataset.text);
  for (const at of root.querySelectorAll("[data-label]")) at.setAttribute("aria-label", t(at.dataset.label));
  for (const at of root.querySelectorAll("[data-hint]")) at.setAttribute("placeholder", t(at.dataset.hint));
}

const number = (value, options) => new Intl.NumberFormat(language, options).format(value);

export const won = (digits) => number(Number(digits), { style: "currency", currency: "KRW" });
export const dollars = (usd) => number(usd, { style: "currency", currency: "USD", maximumFractionDigits: 4 });
export const percent = (share) => number(share, { style: "percent" });

export function bytes(size) {
  const megabytes = size / 2 ** 20;
  return megabytes >= 1
    ? number(megabytes, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 })
    : number(size / 1024, { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 });
}

export function seconds(length) {
  const rounded = length < 10 ? Math.max(0, Math.round(length * 10) / 10) : Math.round(length);
  const of = (count, unit) => number(count, { style: "unit", unit, unitDisplay: "narrow" });
  if (rounded < 60) return of(rounded, "second");
  const minutes = Math.floor(rounded / 60);
  if (minutes < 60) return `${of(minutes, "minute")} ${of(rounded % 60, "second")}`;
  return `${of(Math.floor(minutes / 60), "hour")} ${of(minutes % 60, "minute")}`;
}

export const moment = (stamp) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(stamp));
