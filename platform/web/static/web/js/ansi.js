// One line of output as text nodes and classed spans: never as HTML.
//
// ansi_up reads the escape sequences; instead of its HTML we take its pieces. What is no colour or
// weight is dropped, other control characters and those that hide or reorder text become visible.
import { AnsiUp } from "../../vendor/ansi_up.js";

// C0 without tab, DEL, C1; zero-width and bidirectional controls; line separators; tag characters.
const HIDDEN = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const LONGEST = 20000;

class Pieces extends AnsiUp {
  pieces = [];

  transform_to_html(fragment) {
    this.pieces.push(fragment);
    return "";
  }

  // A link's address would be the output's choice; its text is shown as text.
  process_hyperlink(packet) {
    this.pieces.push(this.with_state(packet));
    return "";
  }

  read(text) {
    this.pieces = [];
    this.ansi_to_html(text);
    // An unfinished sequence at the end of a line would swallow the beginning of the next one.
    if (this._buffer) {
      this.pieces.push(this.with_state({ text: this._buffer.replace(/^\u001b/, "") }));
      this._buffer = "";
    }
    return this.pieces;
  }
}

export function newReader() {
  return new Pieces();
}

export function fillLine(element, reader, text) {
  let shown = text;
  // A progress bar that returns to the line's start leaves its last state, as on a terminal.
  if (shown.includes("\r")) {
    const parts = shown.split("\r").filter(Boolean);
    shown = parts.length ? parts[parts.length - 1] : "";
  }
  if (shown.length > LONGEST) shown = `${shown.slice(0, LONGEST)} … ${text.length - LONGEST} more characters: see the raw log`;
  for (const piece of reader.read(shown)) {
    const classes = classesOf(piece);
    if (!classes.length && !piece.fg && !piece.bg) appendVisible(element, piece.text);
    else {
      const span = document.createElement("span");
      span.classList.add(...classes);
      if (piece.fg?.class_name === "truecolor") span.style.color = rgb(piece.fg);
      if (piece.bg?.class_name === "truecolor") span.style.backgroundColor = rgb(piece.bg);
      appendVisible(span, piece.text);
      element.append(span);
    }
  }
}

function classesOf(piece) {
  const classes = [];
  for (const name of ["bold", "faint", "italic", "underline"]) if (piece[name]) classes.push(`ansi-${name}`);
  if (piece.fg?.class_name.startsWith("ansi-")) classes.push(`${piece.fg.class_name}-fg`);
  if (piece.bg?.class_name.startsWith("ansi-")) classes.push(`${piece.bg.class_name}-bg`);
  return classes;
}

function rgb(color) {
  return `rgb(${color.rgb.map(Number).join(" ")})`;
}

function appendVisible(element, text) {
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) element.append(text.slice(from, match.index));
    const mark = document.createElement("span");
    mark.className = "hidden-char";
    const code = match[0].codePointAt(0);
    mark.textContent = code < 0x20 ? String.fromCodePoint(0x2400 + code) : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    element.append(mark);
    from = match.index + match[0].length;
  }
  if (from < text.length) element.append(text.slice(from));
}
