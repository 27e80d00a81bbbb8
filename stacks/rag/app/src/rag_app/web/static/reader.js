// The panel that shows a passage in its document.

import { ApiError, request } from "./api.js";
import { byId, element } from "./dom.js";
import { place, say } from "./texts.js";

const FIRST_CONTEXT = 1500;
const MAX_CONTEXT = 48000;

let shown = null;

/** Wire the panel. */
export function start() {
  const dialog = byId("reader");
  byId("reader-close").addEventListener("click", () => dialog.close());
  byId("reader-more").addEventListener("click", () => more());
  // A click on the backdrop lands on the dialog itself.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

/** Open a citation: {document, document_id, locator, start, end}. */
export function openPassage(citation) {
  shown = { ...citation, context: FIRST_CONTEXT };
  byId("reader-title").textContent = citation.document;
  byId("reader-locator").textContent = place(citation.locator);
  byId("reader-file").href = path(citation, "file");
  byId("reader-more").hidden = true;
  byId("reader-text").replaceChildren(element("p", { class: "hint" }, say("loading")));
  byId("reader").showModal();
  return load(true);
}

/** Open a document at its beginning. */
export function openDocument(document) {
  return openPassage({
    document: document.name, document_id: document.id, locator: subtitle(document), start: 0, end: 0,
  });
}

const subtitle = ({ title, name }) => (title === name ? "" : title);

const path = (citation, what) => `/api/documents/${encodeURIComponent(citation.document_id)}/${what}`;

function more() {
  shown.context = Math.min(shown.context * 4, MAX_CONTEXT);
  return load(false);
}

async function load(scroll) {
  const asked = shown;
  const { start, end, context } = asked;
  try {
    const found = await request(`${path(asked, "text")}?start=${start}&end=${end}&context=${context}`);
    if (asked === shown) show(found, scroll);
  } catch (error) {
    const text = (error instanceof ApiError ? error : new ApiError("network")).text();
    if (asked === shown) byId("reader-text").replaceChildren(element("p", { role: "alert" }, text));
  }
}

function show({ before, text, after, start, end, length }, scroll) {
  const moreBefore = [...before].length < start;
  const moreAfter = end + [...after].length < length;
  const quote = element("mark", {}, text);
  const body = byId("reader-text");
  const top = body.scrollHeight - body.scrollTop;
  body.replaceChildren(moreBefore ? "… " : "", before, text ? quote : "", after, moreAfter ? " …" : "");
  byId("reader-more").hidden = !(moreBefore || moreAfter) || shown.context >= MAX_CONTEXT;
  if (!scroll) body.scrollTop = moreBefore || before ? Math.max(0, body.scrollHeight - top) : 0;
  else if (text) quote.scrollIntoView({ block: "center" });
  else body.scrollTop = 0;
}
