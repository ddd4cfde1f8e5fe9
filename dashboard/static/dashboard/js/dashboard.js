// Behaviour of every page: the theme switch, menus, copy buttons, times in the browser's zone, phrases to confirm with.

import { beginningOfKey, masked } from "./masked.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const UNITS = [
  ["year", 31536000],
  ["month", 2592000],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

/** A time relative to now in the browser's language: `3 minutes ago`. */
function relative(moment) {
  const seconds = Math.round((moment.getTime() - Date.now()) / 1000);
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return RELATIVE.format(Math.round(seconds / length), unit);
}

/** Show every `<time data-moment>` below a node. Scripts that add such elements call this for them. */
export function showMoments(root = document) {
  for (const time of root.querySelectorAll("time[data-moment]")) {
    const moment = new Date(time.dateTime);
    time.textContent = time.dataset.moment === "exact" ? EXACT.format(moment) : relative(moment);
  }
}

/** Show a text in the page's live region, where screen readers read it aloud. */
export function say(text, level = "success") {
  const message = document.createElement("p");
  message.className = `message message-${level}`;
  message.textContent = text;
  document.querySelector(".messages")?.append(message);
  setTimeout(() => message.remove(), 6000);
}

/** The CSRF token, from any form of the page, because scripts cannot read the cookie. */
export function csrfToken() {
  return document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";
}

const pad = (number) => String(number).padStart(2, "0");
const asInput = (date) =>
  `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}T${pad(date.getHours())}:${pad(date.getMinutes())}`;

// The server uses UTC. Users type in their own time zone, and the hint names it.
function localiseMomentInputs() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const input of document.querySelectorAll("input[data-moment-input]")) {
    if (input.value) input.value = asInput(new Date(`${input.value}Z`));
    const hint = document.getElementById(`${input.id}-hint`)?.querySelector("[data-zone]");
    if (hint) hint.textContent = `Time in ${zone}.`;
    input.form?.addEventListener("formdata", (event) => {
      if (input.disabled || !input.value) return;
      event.formData.set(input.name, new Date(input.value).toISOString().slice(0, 16));
    });
  }
}

async function copy(button) {
  const label = button.querySelector("span:last-child");
  const before = label.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Select it and copy";
  }
  setTimeout(() => {
    label.textContent = before;
  }, 2000);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const copied = target?.closest("[data-copy]");
  if (copied) copy(copied);
  if (target?.closest("[data-theme-switch]")) {
    const isDark = document.documentElement.classList.toggle("dark");
    try {
      localStorage.setItem("theme", isDark ? "dark" : "light");
    } catch {
      // The choice then holds for this page only.
    }
  }
  for (const menu of document.querySelectorAll("details.menu-holder[open], details.switcher[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu-holder[open], details.switcher[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches?.("[data-submit-on-change]")) event.target.form.requestSubmit();
});

document.addEventListener("submit", (event) => {
  for (const input of event.target.querySelectorAll("input[type=search]")) {
    input.value = "searchesKeys" in input.dataset ? beginningOfKey(input.value) : masked(input.value);
  }
});

// The button is enabled when the phrase is right. The server checks it again.
for (const input of document.querySelectorAll("input[data-phrase]")) {
  const button = input.form.querySelector("button[type=submit]");
  const judge = () => {
    button.disabled = input.value.trim() !== input.dataset.phrase.trim();
  };
  input.addEventListener("input", judge);
  judge();
}

showMoments();
localiseMomentInputs();
setInterval(showMoments, 30000);

// A shown token disappears when its page is left, even where the browser keeps pages to go back to. A reload, or going
// back, shows the created object instead of the question whether to send the form again.
for (const shown of document.querySelectorAll("[data-holds-token], .token-once")) {
  window.addEventListener("pagehide", () => {
    shown.textContent = "The token was shown once. It cannot be shown again.";
  });
  if (shown.dataset.then) history.replaceState(null, "", shown.dataset.then);
}

// A second click on a button must not send the form again.
for (const form of document.querySelectorAll("form[data-sent-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.ariaBusy === "true") event.preventDefault();
    form.ariaBusy = "true";
  });
  window.addEventListener("pageshow", () => {
    form.ariaBusy = null;
  });
}
