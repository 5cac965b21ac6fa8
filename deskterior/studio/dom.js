// Makes elements. Text goes in as text, never as markup: much of what is shown was written by strangers.

export const $ = (id) => document.getElementById(id);

/** An element with attributes (`class`, `hidden`, `on<event>`…) and children: elements, texts, or nothing. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...some(children));
  return made;
}

/** Put `children` in place of what an element held. */
export const fill = (place, ...children) => place.replaceChildren(...some(children));

const some = (children) => children.flat().filter((child) => ![null, undefined, false, ""].includes(child));

const SVG = "http://www.w3.org/2000/svg";

/** One of the symbols that stand at the end of the page. It says nothing to who cannot see it. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  picture.append(use);
  return picture;
}

/** `address` if a browser may be sent there, else "". */
export function web(address) {
  try {
    return ["http:", "https:"].includes(new URL(address).protocol) ? address : "";
  } catch {
    return "";
  }
}

/** Tell those who listen to the page. The same sentence again is told again. */
export function announce(sentence) {
  const place = $("announcements");
  place.textContent = place.textContent === sentence ? `${sentence}\u00a0` : sentence;
}

export const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("stopped", "AbortError"));
    if (signal?.aborted) return stop();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), stop()), { once: true });
  });
