// What went wrong with a request of the page, in sight of everybody, until it is dismissed.

const UNREACHABLE = "The server cannot be reached; try again.";
let failed = null;

function notice() {
  return document.getElementById("problem");
}

function show(words, element) {
  failed = element;
  const text = document.createElement("p");
  text.textContent = words;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.textContent = "Dismiss";
  button.addEventListener("click", dismiss);
  notice()?.replaceChildren(text, button);
}

function dismiss() {
  failed = null;
  notice()?.replaceChildren();
}

function wordsOf(xhr) {
  const status = `The server answered ${xhr.status}; load the page again.`;
  if (!xhr.getResponseHeader("Content-Type")?.startsWith("application/problem+json")) return status;
  try {
    const problem = JSON.parse(xhr.responseText);
    const details = (problem.errors ?? []).map((error) => error.detail);
    return [problem.detail, ...details].filter(Boolean).join(" ") || status;
  } catch {
    return status;
  }
}

export function keepNotice() {
  document.addEventListener("htmx:responseError", (event) => {
    show(wordsOf(event.detail.xhr), event.detail.elt);
  });
  document.addEventListener("htmx:sendError", (event) => show(UNREACHABLE, event.detail.elt));
  // What failed has now succeeded: the notice would no longer be true.
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && event.detail.elt === failed) dismiss();
  });
  document.addEventListener("keydown", (event) => {
    const elsewhere = event.target.closest?.("dialog[open], details[data-menu][open]");
    if (event.key === "Escape" && !elsewhere) dismiss();
  });
}
