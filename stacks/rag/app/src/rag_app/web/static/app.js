// The page put together.

import { readiness, request } from "./api.js";
import * as answers from "./answers.js";
import { byId } from "./dom.js";
import * as documents from "./documents.js";
import * as reader from "./reader.js";
import { label, language, onLanguage, preferredLanguage, setLanguage } from "./texts.js";

const POLL_NOT_READY_MS = 3000;

function startLanguageSwitch() {
  const buttons = [...document.querySelectorAll("[data-language]")];
  for (const button of buttons) {
    button.addEventListener("click", () => setLanguage(button.dataset.language));
  }
  onLanguage(() => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language()));
    }
  });
}

/** Say that the box is not ready, until it is. */
async function followReadiness() {
  const banner = byId("readiness");
  const state = await readiness().catch(() => null);
  const ready = state?.ready ?? false;
  banner.hidden = ready;
  if (ready) return;
  if (!state) label(banner, "error.network");
  else if (state.pending) label(banner, "notReadyPending", { pending: state.pending });
  else label(banner, "notReady");
  setTimeout(followReadiness, POLL_NOT_READY_MS);
}

/** Say where questions and documents go, which is nowhere unless a model runs elsewhere. */
async function showBox() {
  const { release, engine_host, embedding_host } = await request("/healthz");
  const hosts = [...new Set([embedding_host, engine_host].filter(Boolean))].join(", ");
  const key = embedding_host ? "sentAll" : engine_host ? "sentPassages" : "local";
  label(byId("privacy"), key, { host: hosts });
  label(byId("release"), "releaseId", { release: release.slice(0, 19) });
}

startLanguageSwitch();
answers.start();
reader.start();
setLanguage(preferredLanguage());
documents.start();
followReadiness();
showBox().catch(() => {});
byId("question").focus({ preventScroll: true });
