// A small part of Markdown, built as elements: paragraphs, headings, lists, code, bold.
// Links and images stay text on purpose: nothing that a document or a model wrote may make the
// browser send a request or take the reader elsewhere.

import { element } from "./dom.js";

const FENCE = /^\s*(```|~~~)/;
const HEADING = /^\s{0,3}#{1,6}\s+(.*)$/;
const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBERED = /^\s*(\d{1,3})[.)]\s+(.*)$/;
const INDENTED = /^(?: {4}|\t)\s*\S/;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\[(\d{1,3})\]/g;

/** `text` as a fragment; `marker(number)` makes the element for `[number]`. */
export function render(text, marker) {
  const fragment = document.createDocumentFragment();
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) at = block(lines, at, fragment, marker);
  return fragment;
}

function block(lines, at, parent, marker) {
  const line = lines[at];
  if (!line.trim()) return at + 1;
  if (FENCE.test(line)) return fenced(lines, at, parent, marker);
  if (BULLET.test(line)) return list(lines, at, parent, marker, "ul", BULLET, 1);
  if (NUMBERED.test(line)) return list(lines, at, parent, marker, "ol", NUMBERED, 2);
  if (INDENTED.test(line)) return indented(lines, at, parent);
  const heading = line.match(HEADING);
  if (heading) {
    parent.append(inline(element("p", { class: "heading" }), heading[1], marker));
    return at + 1;
  }
  return paragraph(lines, at, parent, marker);
}

function fenced(lines, at, parent, marker) {
  const fence = lines[at].match(FENCE)[1];
  let end = at + 1;
  while (end < lines.length && !lines[end].trim().startsWith(fence)) end += 1;
  const code = element("code", {}, lines.slice(at + 1, end).join("\n"));
  parent.append(element("pre", { tabindex: "0" }, code));
  // A quote of code is followed by its marker, on the line of the fence.
  const rest = (lines[end] ?? "").trim().slice(fence.length).trim();
  if (rest) parent.append(inline(element("p"), rest, marker));
  return end + 1;
}

/** Code as the text of documents has it: lines with four spaces before them. */
function indented(lines, at, parent) {
  let end = at;
  for (let next = at; next < lines.length; next += 1) {
    if (INDENTED.test(lines[next])) end = next + 1;
    else if (lines[next].trim()) break;
  }
  const code = lines.slice(at, end).map((line) => line.replace(/^(?: {4}|\t)/, "")).join("\n");
  parent.append(element("pre", { tabindex: "0" }, element("code", {}, code)));
  return end;
}

function list(lines, at, parent, marker, tag, pattern, group) {
  const start = tag === "ol" ? lines[at].match(pattern)[1] : undefined;
  const made = element(tag, { start });
  let next = at;
  for (; next < lines.length && pattern.test(lines[next]); next += 1) {
    made.append(inline(element("li"), lines[next].match(pattern)[group], marker));
  }
  parent.append(made);
  return next;
}

function paragraph(lines, at, parent, marker) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !starts(lines[end])) end += 1;
  parent.append(inline(element("p"), lines.slice(at, end).join("\n"), marker));
  return end;
}

const starts = (line) =>
  FENCE.test(line) || BULLET.test(line) || NUMBERED.test(line) || HEADING.test(line);

function inline(parent, text, marker) {
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    parent.append(text.slice(at, match.index));
    const [whole, code, bold, number] = match;
    if (code !== undefined) parent.append(element("code", {}, code));
    else if (bold !== undefined) parent.append(inline(element("strong"), bold, marker));
    else parent.append(marker(Number(number)) ?? whole);
    at = match.index + whole.length;
  }
  parent.append(text.slice(at));
  return parent;
}
