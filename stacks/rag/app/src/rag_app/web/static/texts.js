// Every text of the page in Korean and English, and the switch between them.

const TEXTS = {
  en: {
    skip: "Skip to the question",
    language: "Language",
    title: "Ask your documents",
    lead: "Every answer comes from the documents in this box and shows where it stands.",
    question: "Your question",
    placeholder: "What would you like to know?",
    ask: "Ask",
    stop: "Stop",
    keys: "Enter asks, Shift + Enter starts a new line.",
    examples: "For example",
    answers: "Answers",
    searching: "Searching the documents…",
    writing: "Writing…",
    full: "The box is busy with other answers. Your question waits for its turn.",
    waitingTurn: "The box is busy with other answers. It is asked again in {seconds} s.",
    answered: "The answer is complete.",
    stopped: "Stopped. The answer is incomplete.",
    sources: "Sources",
    source: "Source {number}: {document}, {locator}",
    quoted: "Quoted from the documents",
    written: "Written by AI ({engine}) from the documents. Check the sources.",
    ungrounded: "Written by AI ({engine}) without a source. Do not rely on it.",
    nothing: "Not in the documents",
    degraded: "The language model could not answer, so you see quotes from the documents.",
    lessWell: "Something that makes answers better did not work.",
    retry: "Try again",
    "error.away": "The box is being started or stopped. Try again in a moment.",
    "error.busy": "The box is still busy with other answers. Try again in a moment.",
    documents: "Documents",
    count: "{ready} ready",
    countPending: "{ready} ready, {pending} in progress",
    drop: "Drop files here, or",
    choose: "Choose files",
    dropHint: "PDF, DOCX, HTML, Markdown or text, up to {size} each",
    uploads: "Uploads",
    uploading: "Uploading {name}",
    uploadDone: "{name} is in the box and is being read.",
    uploadCancelled: "Cancelled",
    cancel: "Cancel the upload of {name}",
    dismiss: "Dismiss {name}",
    queued: "Waiting",
    parsing: "Reading",
    indexing: "Indexing",
    ready: "Ready",
    failed: "Failed",
    yours: "Your documents",
    release: "Manual of this box",
    empty: "No documents of yours yet. Until you add some, the box answers from its own manual.",
    listError: "The list of documents cannot be loaded.",
    open: "Open {name}",
    removeNamed: "Remove {name}",
    removed: "{name} was removed.",
    removeTitle: "Remove the document?",
    removeText: "{name} and its passages will be gone. Answers will not use it any more.",
    keep: "Keep it",
    remove: "Remove",
    pages: "{count} pages",
    onePage: "1 page",
    page: "Page {number}",
    passages: "{count} passages",
    onePassage: "1 passage",
    close: "Close",
    more: "Show more around it",
    original: "Original file",
    loading: "Loading…",
    local: "Questions and documents stay in this box.",
    sentPassages: "Questions and the passages found are sent to {host}.",
    sentAll: "Questions and the text of the documents are sent to {host}.",
    releaseId: "Release {release}",
    notReady: "The box is preparing its documents. Answers may be incomplete until then.",
    notReadyPending: "The box is preparing its documents ({pending} left). Answers may be incomplete until then.",
    "error.network": "The box cannot be reached. Check the connection and try again.",
    "error.broken": "The connection broke before the answer was complete.",
    example1: "How do I roll back a failed upgrade?",
    example2: "What happens if the power fails during an install?",
    example3: "Which file formats can I upload?",
  },
  ko: {
    skip: "질문으로 건너뛰기",
    language: "언어",
    title: "문서에 물어보세요",
    lead: "모든 답은 이 박스에 있는 문서에서 나오며, 근거가 있는 곳을 함께 보여 줍니다.",
    question: "질문",
    placeholder: "무엇이 궁금하신가요?",
    ask: "질문하기",
    stop: "중지",
    keys: "Enter로 질문하고, Shift + Enter로 줄을 바꿉니다.",
    examples: "예를 들어",
    answers: "답변",
    searching: "문서를 찾고 있습니다…",
    writing: "답을 쓰고 있습니다…",
    full: "박스가 다른 답을 쓰고 있습니다. 질문이 차례를 기다립니다.",
    waitingTurn: "박스가 다른 답을 쓰고 있습니다. {seconds}초 뒤에 다시 물어봅니다.",
    answered: "답변이 완료되었습니다.",
    stopped: "중지했습니다. 답이 완전하지 않습니다.",
    sources: "출처",
    source: "출처 {number}: {document}, {locator}",
    quoted: "문서에서 그대로 인용했습니다",
    written: "AI({engine})가 문서를 바탕으로 작성했습니다. 출처를 확인하십시오.",
    ungrounded: "AI({engine})가 출처 없이 작성했습니다. 그대로 믿지 마십시오.",
    nothing: "문서에 없는 내용입니다",
    degraded: "언어 모델이 답하지 못해 문서의 인용문을 보여 드립니다.",
    lessWell: "더 나은 답을 위한 기능 하나가 작동하지 않았습니다.",
    retry: "다시 시도",
    documents: "문서",
    count: "{ready}개 준비됨",
    countPending: "{ready}개 준비됨, {pending}개 처리 중",
    drop: "파일을 여기에 놓거나",
    choose: "파일 선택",
    dropHint: "PDF, DOCX, HTML, Markdown, 텍스트 파일. 파일당 최대 {size}",
    uploads: "업로드",
    uploading: "{name} 업로드 중",
    uploadDone: "{name} 파일을 받았고 읽는 중입니다.",
    uploadCancelled: "취소됨",
    cancel: "{name} 업로드 취소",
    dismiss: "{name} 닫기",
    queued: "대기 중",
    parsing: "읽는 중",
    indexing: "색인 중",
    ready: "준비됨",
    failed: "실패",
    yours: "내 문서",
    release: "이 박스의 설명서",
    empty: "아직 추가한 문서가 없습니다. 추가하기 전에는 박스의 설명서로 답합니다.",
    listError: "문서 목록을 불러올 수 없습니다.",
    open: "{name} 열기",
    removeNamed: "{name} 삭제",
    removed: "{name} 문서를 삭제했습니다.",
    removeTitle: "문서를 삭제할까요?",
    removeText: "{name} 문서와 그 내용이 사라지며, 앞으로 답변에 쓰이지 않습니다.",
    keep: "그대로 두기",
    remove: "삭제",
    pages: "{count}쪽",
    onePage: "1쪽",
    page: "{number}쪽",
    passages: "단락 {count}개",
    onePassage: "단락 1개",
    close: "닫기",
    more: "앞뒤 내용 더 보기",
    original: "원본 파일",
    loading: "불러오는 중…",
    local: "질문과 문서는 이 박스를 벗어나지 않습니다.",
    sentPassages: "질문과 찾은 단락은 {host}(으)로 전송됩니다.",
    sentAll: "질문과 문서의 내용은 {host}(으)로 전송됩니다.",
    releaseId: "릴리스 {release}",
    notReady: "박스가 문서를 준비하고 있습니다. 그때까지 답이 완전하지 않을 수 있습니다.",
    notReadyPending: "박스가 문서를 준비하고 있습니다({pending}개 남음). 그때까지 답이 완전하지 않을 수 있습니다.",
    "error.network": "박스에 연결할 수 없습니다. 연결을 확인하고 다시 시도하십시오.",
    "error.broken": "답이 끝나기 전에 연결이 끊어졌습니다.",
    "error.away": "박스가 시작되거나 멈추는 중입니다. 잠시 뒤에 다시 시도하십시오.",
    "error.busy": "박스가 아직 다른 답을 쓰느라 바쁩니다. 잠시 뒤에 다시 시도하십시오.",
    "error.search-unavailable": "지금은 검색을 쓸 수 없습니다. 잠시 뒤에 다시 시도하십시오.",
    "error.too-large": "파일이 너무 큽니다. 문서를 나누어 올리십시오.",
    "error.request-too-large": "요청이 너무 큽니다. 나누어 보내십시오.",
    "error.too-slow": "전송이 멈추었습니다. 다시 시도하십시오.",
    "error.disk-full": "박스의 디스크가 가득 찼습니다. 저장된 것은 없습니다.",
    "error.empty-file": "빈 파일입니다. 내용이 있는 파일을 고르십시오.",
    "error.bad-name": "쓸 수 없는 파일 이름입니다. 이름을 바꾸어 다시 시도하십시오.",
    "error.not-a-form": "업로드가 도중에 끊어졌습니다. 다시 시도하십시오.",
    "error.not-read-yet": "아직 읽지 않은 문서입니다. 준비될 때까지 기다리십시오.",
    "error.unknown-document": "더 이상 없는 문서입니다.",
    "error.release-document": "릴리스에 속한 문서라서 따로 삭제할 수 없습니다.",
    "error.bad-request": "요청이 올바르지 않습니다.",
    "error.foreign-origin": "다른 출처의 페이지에서는 바꿀 수 없습니다.",
    "error.internal": "예상하지 못한 문제가 생겼습니다. 로그를 확인하십시오.",
    "reason.empty-file": "빈 파일입니다. 원본을 확인하고 다시 올리십시오.",
    "reason.too-large": "파일이 너무 큽니다. 더 작은 파일로 나누십시오.",
    "reason.too-long": "글이 너무 깁니다. 문서를 나누십시오.",
    "reason.too-many-pages": "쪽수가 너무 많습니다. 문서를 나누십시오.",
    "reason.no-text": "검색할 수 있는 글이 없습니다. 원본을 확인하십시오.",
    "reason.unknown-format": "읽을 수 없는 형식입니다. PDF, DOCX, HTML, Markdown, 텍스트로 저장해 올리십시오.",
    "reason.unknown-encoding": "글자 인코딩을 알 수 없습니다. UTF-8로 저장해 다시 올리십시오.",
    "reason.encrypted-pdf": "암호가 걸린 PDF입니다. 암호 없이 저장한 사본을 올리십시오.",
    "reason.damaged-pdf": "손상된 PDF입니다. 다시 저장한 사본을 올리십시오.",
    "reason.no-text-layer": "글자 정보가 없는 PDF(스캔본)입니다. 글자가 든 사본을 올리십시오.",
    "reason.encrypted-office": "암호가 걸린 Office 파일입니다. 암호 없이 저장한 사본을 올리십시오.",
    "reason.broken-docx": "손상된 DOCX입니다. 다시 저장한 사본을 올리십시오.",
    "reason.zip-bomb": "압축을 풀면 지나치게 커지는 파일이라 열지 않았습니다.",
    "reason.unsafe-xml": "해로운 파일에 쓰이는 선언이 들어 있습니다. 다시 저장한 사본을 올리십시오.",
    "reason.file-missing": "원본 파일이 없습니다. 다시 올리십시오.",
    "reason.parser-crashed": "읽는 도중에 문제가 생겼습니다. 다른 형식으로 저장해 올리십시오.",
    "reason.out-of-time": "읽는 데 시간이 너무 오래 걸립니다. 문서를 나누십시오.",
    "reason.out-of-memory": "읽는 데 메모리가 너무 많이 듭니다. 문서를 나누십시오.",
    example1: "실패한 업그레이드를 어떻게 되돌리나요?",
    example2: "설치 중에 정전이 되면 어떻게 되나요?",
    example3: "어떤 형식의 파일을 올릴 수 있나요?",
  },
};

const STORED = "aibox.language";
const listeners = [];
let current = "en";

/** The language of the page, "en" or "ko". */
export const language = () => current;

/** The text `key` with `{name}` replaced by `values.name`. */
export function say(key, values = {}) {
  const text = TEXTS[current][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Whether there is a text of this key in the language of the page. */
export const has = (key) => key in TEXTS[current];

/** A locator of the API in the language of the page: "page 3" is what the API says. */
export function place(locator) {
  const page = locator.match(/^page (\d+)$/);
  return page ? say("page", { number: page[1] }) : locator;
}

/** Give `target` a text that follows the language switch; `attribute` instead of its content. */
export function label(target, key, values = {}, attribute = "") {
  const suffix = attribute === "aria-label" ? "Label" : attribute === "placeholder" ? "Placeholder" : "";
  target.dataset[`text${suffix}`] = key;
  target.dataset[`values${suffix}`] = JSON.stringify(values);
  put(target, suffix);
  return target;
}

/** Call `listener` after each switch. */
export const onLanguage = (listener) => listeners.push(listener);

/** Switch the page to `next`. */
export function setLanguage(next) {
  current = next in TEXTS ? next : "en";
  document.documentElement.lang = current;
  remember(current);
  for (const suffix of ["", "Label", "Placeholder"]) {
    const attribute = `data-text${suffix && "-" + suffix.toLowerCase()}`;
    document.querySelectorAll(`[${attribute}]`).forEach((target) => put(target, suffix));
  }
  for (const listener of listeners) listener();
}

/** The language chosen before, else the browser's. */
export function preferredLanguage() {
  const chosen = recall();
  if (chosen in TEXTS) return chosen;
  return (navigator.languages ?? [navigator.language]).find((l) => /^(ko|en)\b/.test(l))?.slice(0, 2) ?? "en";
}

function put(target, suffix) {
  const text = say(target.dataset[`text${suffix}`], JSON.parse(target.dataset[`values${suffix}`] ?? "{}"));
  if (suffix === "Label") target.setAttribute("aria-label", text);
  else if (suffix === "Placeholder") target.setAttribute("placeholder", text);
  else target.textContent = text;
}

// Storage may be forbidden; the switch works without it.
function remember(value) {
  try { localStorage.setItem(STORED, value); } catch { /* not remembered */ }
}

function recall() {
  try { return localStorage.getItem(STORED); } catch { return null; }
}
