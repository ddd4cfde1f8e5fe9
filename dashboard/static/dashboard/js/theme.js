// Sets the theme before the first paint: the one chosen in this browser, else the system's preference.
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // A browser that stores nothing shows the system's preference.
    }
    const isDark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.classList.toggle("dark", isDark);
  };
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
})();
