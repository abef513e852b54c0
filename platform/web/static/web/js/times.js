// Times that people read: "3 min ago" for <time data-relative>, ticking durations for data-since.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

export function ago(seconds) {
  const past = seconds >= 0;
  const size = Math.abs(seconds);
  if (size < 10) return past ? "just now" : "in a moment";
  let words = `${Math.floor(size)} s`;
  for (const [unit, length] of UNITS) {
    if (size >= length) { words = `${Math.floor(size / length)} ${unit}`; break; }
  }
  return past ? `${words} ago` : `in ${words}`;
}

// The same words as templatetags/presentation.py, duration().
export function duration(seconds) {
  const span = Math.max(0, seconds);
  if (span < 9.95) return `${span.toFixed(1)} s`;
  const whole = Math.round(span);
  const pad = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function refreshTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-relative]")) {
    const moment = Date.parse(element.dateTime);
    const words = ago((now - moment) / 1000);
    if (element.textContent !== words) element.textContent = words;
    if (!element.dataset.local) {
      element.dataset.local = "yes";
      element.title = `${new Date(moment).toLocaleString()} · ${element.title}`;
    }
  }
  for (const element of root.querySelectorAll("[data-since]")) {
    element.textContent = duration((now - Date.parse(element.dataset.since)) / 1000);
  }
}

export function keepTimes() {
  refreshTimes();
  setInterval(() => { if (!document.hidden) refreshTimes(); }, 1000);
  document.addEventListener("visibilitychange", () => refreshTimes());
  document.addEventListener("htmx:afterSettle", () => refreshTimes());
}
