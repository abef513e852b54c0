// Runs before the first paint, so that a chosen theme does not flash. Without a choice the system's rules.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage may be forbidden; the system's theme is fine then */ }
