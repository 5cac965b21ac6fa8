// What a makeover brought: before and after under one moving edge, and the products to buy.

import { $, el, icon, web } from "./dom.js";
import { onLanguage, percent, t, won } from "./words.js";

export class Result {
  #task = null;
  #broken = { before: false, after: false };

  constructor() {
    const cut = $("cut");
    cut.addEventListener("input", () => this.#cut());
    for (const side of ["before", "after"]) {
      $(side).addEventListener("error", () => this.#lost(side));
      $(side).addEventListener("load", () => side === "after" && this.#shape());
    }
    onLanguage(() => this.#task && this.#draw());
  }

  /** Show the result of a task; `before` is where this browser has the photo, if it has. */
  show(task, before) {
    this.#task = task;
    this.#broken = { before: false, after: false };
    $("before").hidden = $("after").hidden = false;
    $("before").src = web(before) || (before.startsWith("blob:") ? before : "data:,");
    $("after").src = web(task.result.processed_image_url) || "data:,";
    $("cut").value = 50;
    $("compare").hidden = false;
    this.#draw();
  }

  clear() {
    this.#task = null;
    $("before").removeAttribute("src");
    $("after").removeAttribute("src");
    $("compare").hidden = $("products").hidden = true;
  }

  /** The link that downloads the picture of a task. Browsers download from our own address; others they open in a tab. */
  static link({ concept, id, result }) {
    const address = web(result.processed_image_url);
    const ending = /\.(png|jpg|jpeg|webp)$/i.exec(address && new URL(address).pathname)?.[0] ?? ".png";
    return el("a", { class: "button wide", href: address || null, download: `deskterior-${concept.toLowerCase()}-${id.slice(0, 8)}${ending}`,
      target: "_blank", rel: "noopener noreferrer" }, icon("down"), t("download"));
  }

  #draw() {
    $("after").alt = `${t("after")}: ${t(this.#task.concept)}`;
    $("before").alt = t("before");
    this.#cut();
    this.#say();
    const groups = this.#task.result.products;
    $("products").hidden = false;
    $("product-list").replaceChildren(
      ...(groups.length ? groups.map(group) : [el("p", { class: "hint" }, t("noProducts"))]),
    );
  }

  #cut() {
    const { value } = $("cut");
    $("compare").style.setProperty("--cut", `${value}%`);
    $("cut").setAttribute("aria-valuetext", t("compareValue", { percent: percent(value / 100) }));
  }

  #shape() {
    const { naturalWidth: width, naturalHeight: height } = $("after");
    if (width && height) $("compare").style.setProperty("--shape", `${width} / ${height}`);
  }

  #lost(side) {
    if (!this.#task) return;
    this.#broken[side] = true;
    $(side).hidden = true;
    this.#say();
  }

  #say() {
    const { before, after } = this.#broken;
    $("compare-missing").textContent = after ? t("noAfter") : before ? t("noBefore") : "";
    $("compare-missing").hidden = !before && !after;
    $("compare").classList.toggle("alone", before || after);
    $("cut").disabled = before || after;
  }
}

function group({ keyword, details }) {
  return el("section", { class: "shelf" }, el("h3", {}, keyword), el("ul", { class: "goods" }, details.map(product)));
}

function product({ title, price, mall, link, image, main_category: main, sub_category: sub }) {
  const picture = el("img", { alt: "", loading: "lazy", decoding: "async", referrerpolicy: "no-referrer", width: "240", height: "240" });
  picture.addEventListener("error", () => picture.classList.add("gone"));
  picture.src = web(image) || "data:,";
  const inside = [
    el("span", { class: "thumb" }, picture),
    el("span", { class: "kind" }, [...new Set([main, sub])].filter(Boolean).join(" · ")),
    el("span", { class: "name" }, title),
    el("span", { class: "price" }, won(price)),
    el("span", { class: "mall" }, mall, web(link) && icon("out")),
  ];
  const out = { class: "good", href: link, target: "_blank", rel: "noopener noreferrer", referrerpolicy: "no-referrer" };
  return el("li", {}, web(link) ? el("a", out, inside, el("span", { class: "unseen" }, ` (${t("opensShop")})`)) : el("div", { class: "good" }, inside));
}
