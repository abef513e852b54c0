// One-key commands. They rest while somebody types, or holds a modifier.

const WAIT_FOR_SECOND_KEY = 1200;
let first = null;

function typing(target) {
  return target.closest?.("input, textarea, select, [contenteditable], dialog[open]");
}

function rows() {
  return [...document.querySelectorAll("[data-rowset] [data-row]")];
}

function moveRow(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
  (next.matches("a, button") ? next : next.querySelector("a")).focus();
  next.scrollIntoView({ block: "nearest" });
}

function follow(keys) {
  const link = document.querySelector(`[data-key="${keys}"]`);
  if (link) link.click();
  return Boolean(link);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (typing(event.target)) {
    if (event.key === "Escape" && event.target.matches("input[data-search]")) event.target.blur();
    return;
  }
  const sequence = first ? `${first} ${event.key}` : event.key;
  first = null;
  if (event.key === "g") {
    first = "g";
    setTimeout(() => { first = null; }, WAIT_FOR_SECOND_KEY);
    return;
  }
  const actions = {
    "/": () => {
      const box = document.querySelector("[data-search]");
      box?.focus();
      box?.select();
      return Boolean(box);
    },
    "?": () => document.getElementById("shortcuts")?.showModal(),
    j: () => moveRow(1),
    k: () => moveRow(-1),
    f: () => document.querySelector('[data-toggle="follow"]')?.click(),
    w: () => document.querySelector('[data-toggle="wrap"]')?.click(),
    t: () => document.querySelector('[data-toggle="times"]')?.click(),
  };
  if (follow(sequence)) event.preventDefault();
  else if (Object.hasOwn(actions, sequence)) {
    event.preventDefault();
    actions[sequence]();
  }
}

export function keepKeyboard() {
  document.addEventListener("keydown", pressed);
}
