// How a photo comes in: dropped, chosen, pasted, or as an address. What it is, its first bytes say, not its name.

import { $ } from "./dom.js";
import { Problem } from "./api.js";
import { t } from "./words.js";

const HEIC_BRANDS = ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"];
const TYPES = [
  ["image/jpeg", (text) => text.startsWith("\xff\xd8\xff")],
  ["image/png", (text) => text.startsWith("\x89PNG\r\n\x1a\n")],
  ["image/webp", (text) => text.startsWith("RIFF") && text.slice(8, 12) === "WEBP"],
  ["image/heic", (text) => text.slice(4, 8) === "ftyp" && HEIC_BRANDS.includes(text.slice(8, 12))],
];

/** The media type of a photo. Raises Problem for what is none, or larger than `most` bytes. */
export async function typeOf(file, most) {
  if (most && file.size > most) throw new Problem({ type: "photo-too-large", status: 413 });
  let head;
  try {
    head = String.fromCharCode(...new Uint8Array(await file.slice(0, 16).arrayBuffer()));
  } catch {
    throw new Problem({ type: "photo-unreadable", status: 422 }); // a folder, or a file that is gone
  }
  const found = TYPES.find(([, is]) => is(head));
  if (!found) throw new Problem({ type: "photo-type-unsupported", status: 415 });
  return found[0];
}

/** Call `onFile` or `onAddress` with what a person brings, `free()` telling whether it may be brought now. */
export function intake({ onFile, onAddress, free }) {
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = ""; // the same one may be chosen again
    if (file) onFile(file);
  });
  $("address-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const address = $("address").value.trim();
    if (address) onAddress(address);
    else $("address").focus();
  });

  // The whole window takes a photo: a drop beside the frame would open the file and lose the page.
  let within = 0;
  const mark = (over) => {
    document.body.classList.toggle("dropping", over && free());
    $("drop-words").textContent = t(over && free() ? "dropNow" : "drop");
  };
  const brings = (event) => ["Files", "text/uri-list"].some((kind) => event.dataTransfer.types.includes(kind));
  addEventListener("dragenter", (event) => brings(event) && ((within += 1), mark(true)));
  addEventListener("dragleave", (event) => brings(event) && ((within -= 1), within <= 0 && mark(false)));
  addEventListener("dragover", (event) => brings(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    within = 0;
    mark(false);
    if (!brings(event)) return;
    event.preventDefault();
    if (free()) bring(event.dataTransfer, { onFile, onAddress });
  });
  addEventListener("paste", (event) => {
    if (!free() || event.target.closest?.("input, dialog")) return;
    bring(event.clipboardData, { onFile, onAddress });
  });
}

function bring(data, { onFile, onAddress }) {
  const [file] = data.files;
  const address = (data.getData("text/uri-list") || data.getData("text/plain")).trim().split(/\s/)[0];
  if (file) onFile(file);
  else if (/^https?:\/\//i.test(address)) onAddress(address);
}
