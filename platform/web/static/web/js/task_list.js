// The task list stays true: rows change in place, newer tasks come in when nobody is in the way.
import { announce } from "./app.js";
import { refreshTimes } from "./times.js";
import { LiveSocket, showState } from "./socket.js";

const live = document.getElementById("live");
const SETTLE = 250;
const POLL = 5000;
const MOST_ROWS = 100;
const changed = new Set();
let newer = new Set();
let settling = null;
let polling = null;
let pointer = false;

// The frame stays, what is in it is swapped: a request in flight never loses its target.
const frame = document.getElementById("task-list");
const list = () => document.getElementById("tasks");
const row = (id) => document.getElementById(`task-${id}`);

function busy() {
  const table = list();
  return pointer || (table.contains(document.activeElement) && document.activeElement !== table);
}

function reload() {
  const table = list();
  newer = new Set();
  return htmx.ajax("GET", `${table.dataset.list}?${table.dataset.query}`, {
    source: frame, target: frame, swap: "innerHTML",
  });
}

async function settle() {
  settling = null;
  const known = [...changed].filter((id) => row(id));
  const unknown = [...changed].filter((id) => !row(id));
  changed.clear();
  if (known.length) await replaceRows(known);
  if (!unknown.length || list().dataset.first !== "yes") return;
  for (const id of unknown) newer.add(id);
  if (busy()) offerNewer();
  else reload();
}

// Rows are asked for again rather than built here: one template, one set of rules.
async function replaceRows(ids) {
  for (let from = 0; from < ids.length; from += MOST_ROWS) {
    const query = new URLSearchParams({ ids: ids.slice(from, from + MOST_ROWS).join(",") });
    const answer = await fetch(`${list().dataset.rows}?${query}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok || answer.redirected) return;
    const template = document.createElement("template");
    template.innerHTML = await answer.text();
    for (const fresh of template.content.querySelectorAll("tr[data-task]")) {
      const old = row(fresh.dataset.task);
      if (!old) continue;
      const focused = old.contains(document.activeElement);
      if (old.dataset.status !== fresh.dataset.status) {
        fresh.classList.add("changed");
        announce(`${fresh.querySelector(".row-link").textContent} is ${fresh.dataset.status.replace("_", " ")}.`);
      }
      old.replaceWith(fresh);
      htmx.process(fresh);
      if (focused) fresh.querySelector(".row-link").focus({ preventScroll: true });
      refreshTimes(fresh);
    }
  }
}

function offerNewer() {
  const offer = list().querySelector(".newer");
  if (!offer) return reload();
  offer.hidden = false;
  offer.querySelector("button").textContent = newer.size === 1 ? "1 newer task ↑" : `${newer.size} newer tasks ↑`;
}

function showProgress(id, { percent, step }) {
  const bar = row(id)?.querySelector("progress");
  if (!bar) return note(id);
  bar.value = percent;
  row(id).querySelector(".step").textContent = step;
}

function note(id) {
  changed.add(id);
  settling ??= setTimeout(settle, SETTLE);
}

function read(said) {
  if (said.cursor) socket.after = said.cursor;
  // What changed between the page and the first frame is in no frame: look at the list once.
  if (said.kind === "snapshot") {
    if (!busy()) reload();
    else for (const shown of list().querySelectorAll("tr[data-task]")) note(shown.dataset.task);
  }
  else if (said.kind === "progress") { if (row(said.task)) showProgress(said.task, said.data); }
  else if (said.task) note(said.task);
}

function poll(on) {
  clearInterval(polling);
  polling = on ? setInterval(() => { if (!document.hidden && !busy()) reload(); }, POLL) : null;
}

const socket = new LiveSocket(list().dataset.feed, {
  onFrame: read,
  onState(state, code) {
    poll(state === "waiting" || state === "gone");
    showState(live, state, code === 4401 ? "You were logged out" : state === "waiting" ? "Asking every 5 s" : undefined);
  },
});

document.addEventListener("pointerover", (event) => { pointer = Boolean(event.target.closest?.("#tasks tbody")); });
document.documentElement.addEventListener("pointerleave", () => { pointer = false; });
document.addEventListener("click", (event) => { if (event.target.closest("[data-show-newer]")) reload(); });
// A reload that was asked for under other filters than those of now comes too late: it is dropped.
let choice = 0;
// A reload that was asked for before somebody began to move by keyboard must not take their place away.
let place = null;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt === frame) event.detail.xhr.choice = choice;
  else choice += 1;
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { choice: asked } = event.detail.xhr;
  if (asked === undefined) choice += 1;
  else if (asked !== choice) event.detail.shouldSwap = false;
  if (event.detail.target === frame) place = document.activeElement?.closest("tr[data-task]")?.dataset.task ?? null;
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target !== frame) return;
  if (place) row(place)?.querySelector(".row-link").focus({ preventScroll: true });
  const clear = document.querySelector("[data-clear]");
  const filters = new FormData(document.getElementById("filters"));
  clear.hidden = ![...filters.values()].some(Boolean);
  const chosen = filters.getAll("status").length;
  const summary = document.getElementById("status-summary");
  summary.querySelector("b")?.remove();
  if (chosen) summary.append(Object.assign(document.createElement("b"), { textContent: chosen }));
});
socket.open();
