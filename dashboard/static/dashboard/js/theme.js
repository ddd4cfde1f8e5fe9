// Light or dark, before the first paint: what was chosen in this browser, else what the system prefers.
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // A browser that keeps nothing shows what the system prefers.
    }
    const isDark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.classList.toggle("dark", isDark);
  };
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
})();
