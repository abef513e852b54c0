// One live stream: connects, reads frames, reconnects after the last one that was read.
//
// The server stores before it announces and replays after a number or cursor, so a broken connection
// costs time and nothing else. States: connecting, live, waiting (will try again), ended, gone.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15000;
const FINAL = new Set([1000, 4400, 4404]);
const NOT_AUTHENTICATED = 4401;

export class LiveSocket {
  constructor(path, { after = null, onFrame, onState }) {
    this.path = path;
    this.after = after;
    this.onFrame = onFrame;
    this.onState = onState;
    this.pause = FIRST_PAUSE;
    this.done = false;
    this.timer = null;
    this.socket = null;
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.retryNow(); });
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("pageshow", (event) => { if (event.persisted) this.retryNow(); });
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    this.onState("connecting");
    const url = new URL(this.path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (this.after !== null) url.searchParams.set("after", this.after);
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.addEventListener("message", (event) => {
      const frame = JSON.parse(event.data);
      // The first frame proves that the handshake was accepted for good, and not closed with a code.
      if (frame.kind === "snapshot") {
        this.pause = FIRST_PAUSE;
        this.onState("live");
      }
      if (frame.kind === "end") this.done = true;
      this.onFrame(frame);
    });
    socket.addEventListener("close", (event) => this.closed(socket, event.code));
  }

  closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    if (this.done) return this.onState("ended");
    if (code === NOT_AUTHENTICATED || FINAL.has(code)) {
      this.done = true;
      return this.onState("gone", code);
    }
    this.onState("waiting");
    // A little chance keeps many pages from coming back at once after a restart of the server.
    this.timer = setTimeout(() => this.open(), this.pause * (0.75 + Math.random() / 2));
    this.pause = Math.min(LONGEST_PAUSE, this.pause * 2);
  }

  retryNow() {
    if (this.socket || this.done) return;
    this.pause = FIRST_PAUSE;
    this.open();
  }
}

const WORDS = {
  connecting: "Connecting…",
  live: "Live",
  waiting: "Connection lost, trying again…",
  ended: "Complete",
  gone: "Not live; load the page again",
};

export function showState(element, state, words = WORDS[state]) {
  if (!element) return;
  element.dataset.state = state;
  element.querySelector("span").textContent = words;
}
