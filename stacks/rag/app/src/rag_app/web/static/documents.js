// The list of documents, uploads with progress, and removal.

import { ApiError, request, upload } from "./api.js";
import { byId, element, icon } from "./dom.js";
import { openDocument } from "./reader.js";
import { has, label, language, onLanguage, say } from "./texts.js";

const BUSY = new Set(["queued", "parsing", "indexing"]);
const POLL_BUSY_MS = 1500;
const POLL_IDLE_MS = 20000;
const AT_ONCE = 2;

let listed = null;
let limit = Infinity;
let timer = 0;
const waiting = [];
let uploading = 0;

/** Wire uploads and begin to follow the list. */
export function start() {
  const input = byId("files");
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  followDrops(byId("drop"));
  onLanguage(draw);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  return refresh();
}

function followDrops(zone) {
  // The whole window takes the drop: a file let go beside the zone must not replace the page.
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || zone.classList.remove("over"));
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer.files);
  });
}

/** Load the list now, and again later: soon while something is in the works. */
async function refresh() {
  clearTimeout(timer);
  try {
    const { documents, max_upload_bytes: bytes } = await request("/api/documents");
    listed = documents;
    limit = bytes;
  } catch {
    listed = listed ?? "failed";
  }
  draw();
  const busy = Array.isArray(listed) && listed.some(({ state }) => BUSY.has(state));
  if (!document.hidden) timer = setTimeout(refresh, busy ? POLL_BUSY_MS : POLL_IDLE_MS);
}

function draw() {
  byId("drop-hint").textContent = limit === Infinity ? "" : say("dropHint", { size: bytesText(limit) });
  const place = byId("document-list");
  if (listed === null) return place.replaceChildren(element("p", { class: "hint" }, say("loading")));
  if (listed === "failed") return place.replaceChildren(element("p", { class: "hint", role: "alert" }, say("listError")));
  const ready = listed.filter(({ state }) => state === "ready").length;
  const pending = listed.filter(({ state }) => BUSY.has(state)).length;
  byId("document-count").textContent = say(pending ? "countPending" : "count", { ready, pending });
  keepFocus(place, () => place.replaceChildren(...groups()));
}

function groups() {
  const mine = listed.filter(({ origin }) => origin === "user");
  const release = listed.filter(({ origin }) => origin === "release");
  const first = element("section", {}, label(element("h3"), "yours"));
  first.append(mine.length ? list(mine) : element("p", { class: "hint" }, say("empty")));
  if (!release.length) return [first];
  const open = byId("release-documents")?.open ?? false;
  const title = element("summary", {}, element("span", {}, say("release")), element("span", { class: "count" }, String(release.length)));
  return [first, element("details", { id: "release-documents", open }, title, list(release))];
}

const list = (documents) => element("ul", { class: "documents" }, ...documents.map(item));

function item(document) {
  const readable = document.state === "ready";
  const shown = document.origin === "release" ? document.title || document.name : document.name;
  const name = readable
    ? element("button", { type: "button", class: "name", id: `open-${document.id}`, onclick: () => openDocument(document) }, shown)
    : element("span", { class: "name" }, shown);
  const about = element("div", { class: "about" }, name, details(document));
  const made = element("li", { class: `document ${document.state}` }, icon("file"), about);
  if (document.origin === "user") made.append(removal(document));
  return made;
}

function details(document) {
  const { state, pages, chunks, size } = document;
  const facts = [bytesText(size)];
  if (pages) facts.push(say(pages === 1 ? "onePage" : "pages", { count: pages }));
  else if (chunks) facts.push(say(chunks === 1 ? "onePassage" : "passages", { count: chunks }));
  const line = element("p", { class: "facts" });
  if (state !== "ready") line.append(element("span", { class: "badge" }, say(state)), " ");
  line.append(facts.join(" · "));
  if (state !== "failed") return line;
  return element("div", {}, line, element("p", { class: "reason" }, reasonText(document.reason)));
}

// A reason reads `reference: sentence`; the sentence is English.
function reasonText(reason) {
  const [, reference, sentence] = reason.match(/^([a-z][a-z-]*): (.*)$/s) ?? [null, "", reason];
  return has(`reason.${reference}`) ? say(`reason.${reference}`) : sentence;
}

function removal(document) {
  const button = element("button", {
    type: "button", class: "quiet", id: `remove-${document.id}`, onclick: () => confirmRemoval(document),
  }, icon("trash"));
  return label(button, "removeNamed", { name: document.name }, "aria-label");
}

function confirmRemoval(document) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = say("removeText", { name: document.name });
  dialog.returnValue = "cancel";
  dialog.addEventListener("close", () => dialog.returnValue === "remove" && remove(document), { once: true });
  dialog.showModal();
}

async function remove(document) {
  try {
    await request(`/api/documents/${encodeURIComponent(document.id)}`, { method: "DELETE" });
    announce(say("removed", { name: document.name }));
  } catch (error) {
    announce((error instanceof ApiError ? error : new ApiError("network")).text());
  }
  await refresh();
  byId("files").focus();
}

// Redrawing the list must not throw the keyboard user back to the top of the page.
function keepFocus(place, change) {
  const id = place.contains(document.activeElement) ? document.activeElement.id : "";
  change();
  if (id) byId(id)?.focus();
}

function take(files) {
  waiting.push(...[...files].map((file) => new Sending(file)));
  next();
}

function next() {
  while (waiting.length && uploading < AT_ONCE) {
    uploading += 1;
    waiting.shift().run().finally(() => {
      uploading -= 1;
      next();
    });
  }
}

/** One upload in the list, from waiting to its end. */
class Sending {
  constructor(file) {
    this.file = file;
    this.cancelled = false;
    this.bar = element("progress", { max: "1", value: "0" });
    label(this.bar, "uploading", { name: file.name }, "aria-label");
    this.note = element("span", { class: "note" }, say("queued"));
    this.button = element("button", { type: "button", class: "quiet", onclick: () => this.cancel() }, icon("close"));
    label(this.button, "cancel", { name: file.name }, "aria-label");
    this.row = element(
      "li", { class: "upload" },
      element("div", { class: "about" }, element("span", { class: "name" }, file.name), this.bar, this.note),
      this.button,
    );
    byId("uploads").append(this.row);
  }

  async run() {
    if (this.cancelled) return;
    if (this.file.size > limit) return this.fail(new ApiError("too-large", say("dropHint", { size: bytesText(limit) })));
    this.sending = upload(this.file, (share) => this.progress(share));
    try {
      await this.sending.done;
      this.row.remove();
      announce(say("uploadDone", { name: this.file.name }));
    } catch (error) {
      if (error.name === "AbortError") this.row.remove();
      else this.fail(error);
    }
    await refresh();
  }

  progress(share) {
    this.bar.value = share;
    this.note.textContent = `${Math.round(share * 100)} %`;
  }

  cancel() {
    this.cancelled = true;
    this.sending?.cancel();
    this.row.remove();
    byId("files").focus();
  }

  fail(error) {
    this.row.classList.add("failed");
    this.bar.remove();
    this.note.textContent = error.text();
    this.note.setAttribute("role", "alert");
    label(this.button, "dismiss", { name: this.file.name }, "aria-label");
  }
}

function announce(text) {
  const announcer = byId("announcer");
  delete announcer.dataset.text;
  announcer.textContent = text;
}

/** Bytes for people, in units of 1024. */
export function bytesText(bytes) {
  const units = ["B", "KB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit && value < 10 ? 1 : 0;
  return `${value.toLocaleString(language(), { maximumFractionDigits: digits })} ${units[unit]}`;
}
