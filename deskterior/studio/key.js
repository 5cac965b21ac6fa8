// The API key: asked for when the service wants one, kept in this tab, changed or forgotten at will.

import { key } from "./api.js";
import { $ } from "./dom.js";
import { t } from "./words.js";

const dialog = () => $("key-dialog");
let asked = null; // one question, however many requests are waiting for its answer

/** Ask when a request was refused, and let the button change the key. `changed` is called after each change. */
export function keys(changed) {
  const field = $("key-field");
  const close = (given) => {
    field.value = "";
    dialog().close(given ? "given" : "");
  };
  const wrong = (yes) => {
    $("key-wrong").textContent = yes ? t("keyWrong") : "";
    $("key-wrong").hidden = !yes;
  };
  const open = (refused) => {
    wrong(refused);
    $("key-forget").hidden = !key.get();
    $("key-open").hidden = false;
    dialog().showModal();
    field.focus();
  };

  key.ask = (problem, used) =>
    (asked ??= new Promise((resolve) => {
      open(used !== "");
      dialog().addEventListener("close", () => ((asked = null), resolve(dialog().returnValue === "given")), { once: true });
    }));

  $("key-open").hidden = !key.get();
  $("key-open").addEventListener("click", () => {
    dialog().addEventListener("close", () => dialog().returnValue === "given" && changed(), { once: true });
    open(false);
  });
  dialog().addEventListener("cancel", () => (dialog().returnValue = ""));
  $("key-not-now").addEventListener("click", () => close(false));
  $("key-forget").addEventListener("click", () => {
    key.set("");
    close(false);
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = field.value.trim();
    if (!/^[\x21-\x7e]+$/.test(given)) return wrong(true); // no header can carry anything else
    key.set(given);
    close(true);
  });
}
