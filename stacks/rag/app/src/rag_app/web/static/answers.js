// The question box and the answers under it.

import { ApiError, ask } from "./api.js";
import { byId, element, icon } from "./dom.js";
import { render } from "./markdown.js";
import { openPassage } from "./reader.js";
import { label, onLanguage, place, say } from "./texts.js";

const EXAMPLES = ["example1", "example2", "example3"];
// How often a box that is full is asked again by itself; after that it is the reader's choice.
const RETRIES = 3;

let running = null;

/** Wire the form, the examples and the keys. */
export function start() {
  const box = byId("question");
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(box.value.trim());
  });
  box.addEventListener("keydown", (event) => {
    // While a Korean syllable is being composed, Enter belongs to the input method.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("ask").requestSubmit();
    }
  });
  box.addEventListener("input", () => fit(box));
  byId("stop").addEventListener("click", () => running?.abort());
  byId("examples").querySelector("ul").append(...EXAMPLES.map(example));
}

function example(key) {
  const button = element("button", { type: "button", class: "chip", onclick: () => submit(say(key)) });
  return element("li", {}, label(button, key));
}

function fit(box) {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

async function submit(question) {
  if (!question || running) return;
  const box = byId("question");
  box.value = "";
  fit(box);
  byId("examples").hidden = true;
  const answer = new Answer(question);
  byId("answers").prepend(answer.card);
  running = new AbortController();
  showRunning(true);
  try {
    await answer.stream(running.signal);
  } finally {
    running = null;
    showRunning(false);
  }
}

function showRunning(on) {
  const hadFocus = byId("ask").contains(document.activeElement);
  byId("stop").hidden = !on;
  byId("ask").querySelector("[type=submit]").hidden = on;
  if (hadFocus) byId("question").focus();
}

/** One question with its answer: a card that fills while the answer arrives. */
class Answer {
  constructor(question) {
    this.question = question;
    this.text = "";
    this.final = null;
    this.nothingFound = false;
    this.drawing = false;
    this.state = element("p", { class: "state" });
    this.notice = element("p", { class: "notice", hidden: true });
    // Busy until complete: a screen reader then reads the whole answer once, not each word.
    this.body = element("div", { class: "body", "aria-live": "polite", "aria-busy": "true" });
    this.sources = element("section", { class: "sources", hidden: true });
    this.card = element(
      "article", { class: "answer" },
      element("h2", {}, question), this.notice, this.body, this.state, this.sources,
    );
    onLanguage(() => this.final && this.showFinal(this.final));
  }

  async stream(signal) {
    label(this.state, "searching");
    this.card.classList.add("waiting");
    try {
      await this.askPatiently(signal);
      if (!this.final) throw new ApiError("broken");
      announce("answered");
    } catch (error) {
      if (error.name === "AbortError") this.showStopped();
      else this.showError(error);
    } finally {
      this.card.classList.remove("waiting");
      this.body.setAttribute("aria-busy", "false");
    }
  }

  async askPatiently(signal) {
    for (let retries = RETRIES; ; retries -= 1) {
      try {
        return await ask(this.question, signal, {
          passages: ({ passages }) => this.found(passages),
          token: ({ text }) => this.add(text),
          degraded: ({ reason }) => this.startOver(reason),
          void: () => this.clear(),
          answer: (answer) => this.showFinal(answer),
        });
      } catch (error) {
        // Nothing of the answer is there yet: a box says that it is full before the first word.
        if (error.reference !== "busy" || !error.retryAfter || !retries) throw error;
        await this.waitForTurn(error.retryAfter, signal);
      }
    }
  }

  async waitForTurn(seconds, signal) {
    announce("full");
    for (let left = seconds; left > 0; left -= 1) {
      label(this.state, "waitingTurn", { seconds: left });
      await second(signal);
    }
    label(this.state, "searching");
  }

  add(text) {
    this.text += text;
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      if (!this.final) this.draw((number) => element("span", { class: "marker" }, String(number)));
    });
  }

  found(passages) {
    // Without passages no engine is asked: the answer is the box's own sentence.
    this.nothingFound = passages.length === 0;
    label(this.state, "writing");
  }

  startOver(reason) {
    this.clear();
    this.showDegraded(reason);
  }

  /** What was shown is void; another model answers anew. */
  clear() {
    this.text = "";
    this.body.replaceChildren();
  }

  draw(marker) {
    this.body.replaceChildren(render(this.text, marker));
  }

  showDegraded(reason, key = "degraded") {
    // The reason is a sentence of the engine's, in English.
    this.notice.replaceChildren(
      label(element("span"), key), " ", element("span", { lang: "en" }, reason),
    );
    this.notice.hidden = false;
  }

  showFinal(answer) {
    this.final = answer;
    this.text = answer.answer;
    this.draw((number) => this.marker(number));
    this.showState(answer);
    const key = answer.engine === "extractive" ? "degraded" : "lessWell";
    if (answer.degraded) this.showDegraded(answer.degraded, key);
    this.sources.hidden = answer.citations.length === 0;
    this.sources.replaceChildren(
      label(element("h3"), "sources"),
      element("ol", {}, ...answer.citations.map((citation, at) => source(citation, at + 1))),
    );
  }

  showState(answer) {
    const [symbol, key] = this.verdict(answer);
    this.card.classList.toggle("doubtful", !answer.grounded);
    this.state.removeAttribute("data-text");
    this.state.replaceChildren(icon(symbol), label(element("span"), key, { engine: answer.engine }));
  }

  /** What the reader must know about an answer: [icon, text]. */
  verdict({ engine, grounded }) {
    const extractive = engine === "extractive";
    if (!grounded) return ["notice", extractive || this.nothingFound ? "nothing" : "ungrounded"];
    return extractive ? ["quote", "quoted"] : ["spark", "written"];
  }

  marker(number) {
    const citation = this.final.citations[number - 1];
    if (!citation) return null;
    const button = element("button", {
      type: "button", class: "marker", onclick: () => openPassage(citation),
    }, String(number));
    return label(button, "source", named(citation, number), "aria-label");
  }

  showStopped() {
    label(this.state, "stopped");
    announce("stopped");
  }

  showError(error) {
    const known = error instanceof ApiError ? error : new ApiError("broken");
    const again = element("button", { type: "button", class: "button", onclick: () => this.again() });
    this.card.classList.add("failed");
    this.state.removeAttribute("data-text");
    this.state.replaceChildren(icon("notice"), element("span", { role: "alert" }, known.text()), label(again, "retry"));
  }

  again() {
    if (running) return;
    this.card.remove();
    submit(this.question);
    byId("question").focus();
  }
}

function source(citation, number) {
  const button = element(
    "button", { type: "button", class: "source", onclick: () => openPassage(citation) },
    element("span", { class: "marker", "aria-hidden": "true" }, String(number)),
    element(
      "span", { class: "source-text" },
      element("span", { class: "source-name" }, citation.document),
      element("span", { class: "source-place" }, place(citation.locator)),
      element("span", { class: "source-quote" }, citation.quote),
    ),
  );
  return element("li", {}, label(button, "source", named(citation, number), "aria-label"));
}

const named = (citation, number) => ({
  number, document: citation.document, locator: place(citation.locator),
});

function second(signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

function announce(key) {
  label(byId("announcer"), key);
}
