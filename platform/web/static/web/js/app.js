// What every page has: times, copying, menus, dialogs, notices, the theme and the keyboard.
import { keepTimes } from "./times.js";
import { keepKeyboard } from "./keyboard.js";
import { keepNotice } from "./notice.js";

export function announce(words) {
  const region = document.getElementById("announcer");
  if (region && region.textContent !== words) region.textContent = words;
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain HTTP has no clipboard interface: select a hidden field and use the old command.
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "visually-hidden";
    button.after(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.dataset.copied = "";
  announce("Copied.");
  setTimeout(() => delete button.dataset.copied, 1200);
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept, then */ }
}

function clicked(event) {
  const button = event.target.closest("button, summary, a");
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  if (!button) return;
  if ("copy" in button.dataset) copy(button);
  if ("opens" in button.dataset) document.getElementById(button.dataset.opens)?.showModal();
  if ("closes" in button.dataset) button.closest("dialog")?.close();
  if ("themeSwitch" in button.dataset) switchTheme();
}

function focusNotice() {
  document.querySelector("[data-focus]")?.focus({ preventScroll: false });
}

document.addEventListener("click", clicked);
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest?.("details[data-menu][open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
// A click beside a dialog closes it; its own box covers the dialog element but for the backdrop.
document.addEventListener("mousedown", (event) => {
  if (event.target instanceof HTMLDialogElement) {
    const box = event.target.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) event.target.close();
  }
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "submit-area" || event.detail.elt?.id === "submit-area") focusNotice();
});

keepTimes();
keepKeyboard();
keepNotice();
focusNotice();
