// The log: lines in chunks that the browser lays out only near the screen, appended once a frame.
//
// Follows the end until somebody scrolls up; keeps the place when older lines come in above.
import { fillLine, newReader } from "./ansi.js";

const CHUNK_LINES = 200;
const LINE_HEIGHT = 19.5;
const NEAR_END = 24;
const HAND = 600;

export class LogView {
  constructor(section) {
    this.section = section;
    this.box = section.querySelector(".log-lines");
    this.empty = section.querySelector(".log-empty");
    this.olderButton = section.querySelector(".log-older");
    this.jump = section.querySelector(".log-jump");
    this.follow = true;
    this.waiting = [];
    this.unseen = 0;
    this.known = null;
    this.oldest = Number(section.dataset.after);
    this.more = section.dataset.older === "yes";
    this.readers = new Map();
    this.tail = null;
    this.lastRun = null;
    this.setToggles();
    this.listen();
    this.olderButton.hidden = !this.more;
  }

  // Where the stream has to begin: at the tail, or at the line that the address names.
  async start() {
    const wanted = this.wantedLine();
    if (!wanted) return this.oldest;
    this.setFollow(false);
    try {
      const query = new URLSearchParams(wanted);
      const answer = await fetch(`${this.section.dataset.placeUrl}?${query}`);
      const { after } = await answer.json();
      if (after !== null && after < this.oldest) {
        this.oldest = after;
        this.more = after > 0;
        this.olderButton.hidden = !this.more;
      }
    } catch { /* the tail is still right */ }
    return this.oldest;
  }

  wantedLine() {
    const match = /^#(?:R(\d{1,6}))?L(\d{1,12})$/.exec(location.hash);
    return match && { run: match[1] ?? "1", line: match[2] };
  }

  add(frame) {
    this.waiting.push(frame);
    if (this.waiting.length === 1) requestAnimationFrame(() => this.draw());
    // A hidden page gets no animation frames: draw now and then, so that nothing piles up.
    if (document.hidden && this.waiting.length > 50) this.draw();
  }

  draw() {
    const frames = this.waiting;
    if (!frames.length) return;
    this.waiting = [];
    this.empty.hidden = true;
    for (const frame of frames) {
      const count = this.append(frame);
      // What was there when the page came is not newer than the page.
      if (this.known === null || frame.seq > this.known) this.unseen += count;
    }
    if (this.follow) this.toEnd();
    else {
      this.jump.textContent = this.unseen
        ? `${this.unseen.toLocaleString()} newer line${this.unseen === 1 ? "" : "s"} ↓`
        : "To the end ↓";
      this.jump.hidden = false;
    }
    this.showTarget();
  }

  append(frame) {
    if (frame.run !== this.lastRun) {
      if (this.lastRun !== null || frame.run > 1) this.box.append(attemptMark(frame.run));
      this.lastRun = frame.run;
      this.tail = null;
    }
    for (const line of frame.data.lines) {
      if (!this.tail || this.tail.childElementCount >= CHUNK_LINES) {
        estimate(this.tail);
        this.tail = newChunk();
        this.box.append(this.tail);
      }
      this.tail.append(this.line(frame, line, this.readerOf(frame)));
    }
    estimate(this.tail);
    return frame.data.lines.length;
  }

  // Colours go on from line to line, in each stream of each attempt for itself.
  readerOf(frame) {
    const key = `${frame.run} ${frame.data.stream}`;
    if (!this.readers.has(key)) this.readers.set(key, newReader());
    return this.readers.get(key);
  }

  line(frame, { n, at, text }, reader) {
    const row = document.createElement("div");
    row.className = `line ${["stdout", "stderr", "system"].includes(frame.data.stream) ? frame.data.stream : ""}`;
    row.id = lineId(frame.run, n);
    const link = document.createElement("a");
    link.href = `#${row.id}`;
    link.textContent = n;
    const words = frame.data.stream === "stdout" ? "" : `, ${frame.data.stream}`;
    link.setAttribute("aria-label", `Line ${n}${words}`);
    const time = document.createElement("time");
    time.dateTime = at;
    time.textContent = at.slice(11, 23).replace("Z", "");
    const content = document.createElement("span");
    fillLine(content, reader, text);
    row.append(link, time, content);
    return row;
  }

  async older() {
    this.olderButton.disabled = true;
    try {
      const answer = await fetch(`${this.section.dataset.olderUrl}?before=${this.oldest + 1}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const page = await answer.json();
      this.prepend(page.frames);
      this.oldest = page.after;
      this.more = page.more;
      this.olderButton.textContent = "Show older lines";
    } catch {
      this.olderButton.textContent = "That did not work; try again";
    }
    this.olderButton.hidden = !this.more;
    this.olderButton.disabled = false;
  }

  prepend(frames) {
    const fragment = document.createDocumentFragment();
    const readers = new Map();
    let chunk = null;
    let run = null;
    for (const frame of frames) {
      if (run !== null && frame.run !== run) { fragment.append(attemptMark(frame.run)); chunk = null; }
      run = frame.run;
      const key = `${frame.run} ${frame.data.stream}`;
      if (!readers.has(key)) readers.set(key, newReader());
      for (const line of frame.data.lines) {
        if (!chunk || chunk.childElementCount >= CHUNK_LINES) {
          estimate(chunk);
          chunk = newChunk();
          fragment.append(chunk);
        }
        chunk.append(this.line(frame, line, readers.get(key)));
      }
    }
    estimate(chunk);
    const before = this.box.scrollHeight - this.box.scrollTop;
    this.olderButton.after(fragment);
    this.box.scrollTop = this.box.scrollHeight - before;
    this.empty.hidden = true;
  }

  // A chunk gets its true height only when it comes near, so the end moves away once or twice.
  toEnd(tries = 6) {
    this.box.scrollTop = this.box.scrollHeight;
    this.unseen = 0;
    this.jump.hidden = true;
    if (tries) requestAnimationFrame(() => { if (this.follow && !this.atEnd(2)) this.toEnd(tries - 1); });
  }

  atEnd(near = NEAR_END) {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < near;
  }

  setFollow(on) {
    this.follow = on;
    this.section.querySelector('[data-toggle="follow"]').setAttribute("aria-pressed", String(on));
    if (on) this.toEnd();
  }

  showTarget() {
    if (!this.wantedLine()) return;
    const row = document.getElementById(location.hash.slice(1));
    if (!row || row.classList.contains("marked")) return;
    for (const other of this.box.querySelectorAll(".marked")) other.classList.remove("marked");
    row.classList.add("marked");
    // Laid out wherever it is, so that the place of its lines is no estimate.
    row.parentElement.style.contentVisibility = "visible";
    this.bringIntoView(row);
  }

  // As with the end: what lies between gets its true height only on the way there.
  bringIntoView(row, tries = 20) {
    const view = this.box.getBoundingClientRect();
    const place = row.getBoundingClientRect();
    if (place.top < view.top || place.bottom > view.bottom) {
      this.box.scrollTop += place.top - view.top - this.box.clientHeight / 2;
    }
    if (tries === 20) this.box.scrollIntoView({ block: "nearest" });
    if (tries && !this.follow) requestAnimationFrame(() => this.bringIntoView(row, tries - 1));
  }

  listen() {
    // The browser scrolls by itself too, while it learns the heights of chunks: only a hand counts.
    let touched = -Infinity;
    for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      this.box.addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
    }
    this.box.addEventListener("pointermove", (event) => { if (event.buttons) touched = performance.now(); });
    this.box.addEventListener("scroll", () => {
      if (performance.now() - touched > HAND) return;
      if (this.follow && !this.atEnd()) this.setFollow(false);
      else if (!this.follow && this.atEnd() && this.unseen) this.setFollow(true);
    }, { passive: true });
    this.olderButton.addEventListener("click", () => this.older());
    this.jump.addEventListener("click", () => this.setFollow(true));
    addEventListener("hashchange", () => {
      this.setFollow(false);
      this.showTarget();
    });
    this.section.querySelector(".log-tools").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if ("raw" in button.dataset) download(this.section.dataset.rawUrl, button);
      else if (button.dataset.toggle === "follow") this.setFollow(!this.follow);
      else this.toggle(button.dataset.toggle, button.getAttribute("aria-pressed") !== "true");
    });
  }

  setToggles() {
    for (const [name, usual] of [["wrap", true], ["times", false]]) {
      let kept = null;
      try { kept = localStorage.getItem(`log-${name}`); } catch { /* the usual, then */ }
      this.toggle(name, kept === null ? usual : kept === "yes");
    }
  }

  toggle(name, on) {
    this.section.querySelector(`[data-toggle="${name}"]`).setAttribute("aria-pressed", String(on));
    this.box.toggleAttribute(`data-${name}`, on);
    try { localStorage.setItem(`log-${name}`, on ? "yes" : "no"); } catch { /* not kept */ }
    if (this.follow) this.toEnd();
  }
}

function lineId(run, n) {
  return run > 1 ? `R${run}L${n}` : `L${n}`;
}

// How high a chunk is taken to be while it is not laid out; too low a guess would overlap the next.
function estimate(chunk) {
  if (chunk) chunk.style.containIntrinsicBlockSize = `auto ${chunk.childElementCount * LINE_HEIGHT}px`;
}

function newChunk() {
  const chunk = document.createElement("div");
  chunk.className = "chunk";
  return chunk;
}

function attemptMark(run) {
  const mark = document.createElement("p");
  mark.className = "attempt";
  mark.textContent = `Attempt ${run}`;
  return mark;
}

async function download(url, button) {
  button.disabled = true;
  try {
    const answer = await fetch(url, { headers: { Accept: "text/plain" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `${url.split("/").at(-2)}.log`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    button.textContent = "Raw";
  } catch {
    button.textContent = "Raw (failed)";
  }
  button.disabled = false;
}
