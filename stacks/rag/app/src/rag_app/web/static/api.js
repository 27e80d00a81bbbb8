// The box's HTTP API as the page uses it.

import { has, say } from "./texts.js";

/** A failure with a text for the reader, in the language of the page where we have one. */
export class ApiError extends Error {
  constructor(reference, message = "", hint = "", retryAfter = 0) {
    super(message);
    this.reference = reference;
    this.hint = hint;
    /** Seconds after which the box asks to be asked again; 0 where it does not. */
    this.retryAfter = retryAfter;
  }

  /** What to show. */
  text() {
    const key = `error.${this.reference}`;
    if (has(key)) return say(key);
    return [this.message, this.hint].filter(Boolean).join(" ") || say("error.network");
  }
}

/** GET or DELETE; the parsed body, or null for none. */
export async function request(path, options = {}) {
  const response = await reach(path, options);
  if (!response.ok) throw errorFrom(await response.text());
  return response.status === 204 ? null : response.json();
}

/** Whether the box is ready: {ready, reason, pending}. */
export async function readiness() {
  return (await reach("/readyz", {})).json();
}

/** POST /api/ask as a stream; calls `on[event](data)` for each event. */
export async function ask(question, signal, on) {
  const response = await reach("/api/ask", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ question, stream: true }),
    signal,
  });
  if (!response.ok) throw errorFrom(await response.text());
  await eachEvent(response.body, (name, data) => {
    if (name === "error") throw errorFrom(data);
    on[name]?.(JSON.parse(data));
  });
}

/** Upload one file; `onProgress` gets 0..1. Returns {done, cancel}. */
export function upload(file, onProgress) {
  const http = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    http.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    http.addEventListener("load", () => {
      if (http.status === 202) resolve(JSON.parse(http.responseText).documents);
      else reject(errorFrom(http.responseText));
    });
    http.addEventListener("error", () => reject(new ApiError("network")));
    http.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
  });
  const form = new FormData();
  form.append("file", file);
  http.open("POST", "/api/documents");
  http.send(form);
  return { done, cancel: () => http.abort() };
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError("network");
  }
}

function errorFrom(body) {
  try {
    const { reference, message, hint, retry_after_s: retryAfter } = JSON.parse(body).error;
    return new ApiError(reference, message, hint, retryAfter);
  } catch {
    return new ApiError("network");
  }
}

async function eachEvent(body, handle) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new ApiError("broken");
    });
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = block.match(/^event: (\w+)\ndata: (.*)$/) ?? [];
      if (name) handle(name, data);
    }
  }
}
