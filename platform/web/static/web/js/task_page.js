// The page of one task: its stream moves the progress bar, the log, and what the server renders.
import { announce } from "./app.js";
import { LogView } from "./log_view.js";
import { LiveSocket, showState } from "./socket.js";

const page = document.getElementById("task");
const live = document.getElementById("live");
const log = new LogView(document.getElementById("log"));
const SETTLE = 120;
const POLL = 5000;
let refreshing = null;
let polling = null;

function refresh() {
  clearTimeout(refreshing);
  // A dialog or menu of the swapped part would vanish under somebody's hand; the dialog is outside it.
  refreshing = setTimeout(() => {
    htmx.ajax("GET", page.dataset.state, { target: "body", swap: "none" });
  }, SETTLE);
}

function showProgress({ percent, step }) {
  const bar = document.getElementById("progress");
  if (!bar) return refresh();
  bar.value = percent;
  document.getElementById("progress-percent").textContent = `${Math.round(percent)} %`;
  document.getElementById("progress-step").textContent = step || "Running";
}

function showStatus(status) {
  const words = status === "retry_wait" ? "waiting to retry" : status;
  document.title = `${words}: ${page.dataset.type} · Switchyard`;
  announce(`The task is ${words}.`);
  if (status === "running") {
    log.empty.textContent = "Running; no output yet.";
  } else if (["completed", "failed", "cancelled", "dropped"].includes(status)) {
    log.empty.textContent = "No output.";
  }
}

function read(frame) {
  if (frame.kind === "snapshot") {
    log.known ??= frame.seq;
    const shown = Number(document.getElementById("task-head").dataset.seq);
    if (frame.task.last_seq > shown) refresh();
    return;
  }
  if (frame.kind === "end") {
    if (frame.seq > Number(document.getElementById("task-head").dataset.seq)) refresh();
    return;
  }
  if (frame.seq) socket.after = frame.seq;
  if (frame.kind === "log") log.add(frame);
  else if (frame.kind === "progress") {
    if (frame.seq > Number(document.getElementById("task-head").dataset.seq)) showProgress(frame.data);
  } else {
    if (frame.seq > Number(document.getElementById("task-head").dataset.seq)) {
      if (frame.kind === "state") showStatus(frame.data.status);
      refresh();
    }
  }
}

// While the stream is away the server is asked now and then, so that the head stays true.
function poll(on) {
  clearInterval(polling);
  polling = on ? setInterval(() => { if (!document.hidden) refresh(); }, POLL) : null;
}

const socket = new LiveSocket(page.dataset.socket, {
  after: 0,
  onFrame: read,
  onState(state, code) {
    poll(state === "waiting" || (state === "gone" && code !== 4404));
    showState(live, state, code === 4401 ? "You were logged out" : undefined);
  },
});
socket.after = await log.start();
socket.open();
