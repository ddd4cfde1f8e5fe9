// The command search: Ctrl+K, ⌘K or /, then a few letters.

import { csrfToken } from "./dashboard.js";
import { masked } from "./masked.js";

const dialog = document.getElementById("palette");
const input = dialog.querySelector("input");
const list = dialog.querySelector("[role=listbox]");
const none = dialog.querySelector(".palette-none");
let chosen = -1;
let asked = 0;
let timer = 0;

function option(result, index) {
  const item = document.createElement("li");
  item.id = `palette-${index}`;
  item.setAttribute("role", "option");
  item.dataset.url = result.url;
  const icon = document.createElement("span");
  icon.className = "icon";
  icon.setAttribute("aria-hidden", "true");
  icon.textContent = result.icon;
  const title = document.createElement("strong");
  title.textContent = result.title;
  const detail = document.createElement("span");
  detail.className = "subtle";
  detail.textContent = result.detail;
  item.append(icon, title, detail);
  return item;
}

function choose(index) {
  const options = [...list.children];
  chosen = options.length ? (index + options.length) % options.length : -1;
  options.forEach((one, at) => {
    one.setAttribute("aria-selected", String(at === chosen));
  });
  if (chosen < 0) {
    input.removeAttribute("aria-activedescendant");
  } else {
    input.setAttribute("aria-activedescendant", options[chosen].id);
    options[chosen].scrollIntoView({ block: "nearest" });
  }
}

async function search() {
  const mine = ++asked;
  const text = masked(input.value.trim());
  let results = [];
  if (text) {
    const answer = await fetch(dialog.dataset.search, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken() },
      body: new URLSearchParams({ q: text }),
    });
    // A redirect leads to the sign-in page, because the session has ended.
    if (!answer.ok || answer.redirected) return;
    ({ results } = await answer.json());
  }
  // An answer that comes after a newer search has begun is ignored.
  if (mine !== asked) return;
  list.replaceChildren(...results.map(option));
  none.hidden = results.length > 0 || !text;
  choose(0);
}

export function open() {
  if (dialog.open) return;
  input.value = "";
  list.replaceChildren();
  none.hidden = true;
  dialog.showModal();
}

input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, 150);
});
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen - 1);
  else if (event.key === "Enter" && chosen >= 0) window.location.assign(list.children[chosen].dataset.url);
  else return;
  event.preventDefault();
});
list.addEventListener("click", (event) => {
  const item = event.target.closest("[data-url]");
  if (item) window.location.assign(item.dataset.url);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  const wanted =
    ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") || (event.key === "/" && !typing);
  if (!wanted) return;
  event.preventDefault();
  open();
});
document.querySelector("[data-palette]")?.addEventListener("click", open);
