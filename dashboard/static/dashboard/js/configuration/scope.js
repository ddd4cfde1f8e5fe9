// One dimension of the access scope: everything, only the listed entries, or nothing.

import { choices } from "./choices.js";
import { cloned, leftOver } from "./parts.js";

const NOTHING_LISTED = "Nothing is listed. Add what is allowed, or choose “Nothing allowed” if that is what you mean.";

export function scope(root, { url, labels, announce, onChange }) {
  const dimension = root.dataset.dimension;
  const list = root.querySelector("[data-entries]");
  const input = root.querySelector("[data-choices] input");
  const chosen = () => root.querySelector("input[type=radio]:checked").value;
  const entries = () => [...list.children].map((item) => item.dataset.entry);

  function add(entry, label) {
    if (entries().includes(entry)) return false;
    const item = cloned("entry-template");
    item.dataset.entry = entry;
    item.querySelector("[data-label]").textContent = label;
    if (label !== entry) item.querySelector("[data-entry-text]").textContent = entry;
    item.querySelector("[data-remove]").setAttribute("aria-label", `Remove ${label}`);
    list.append(item);
    return true;
  }

  choices(root.querySelector("[data-choices]"), {
    url: `${url}${dimension}`,
    free: true,
    onPick({ value, label }) {
      announce(add(value, label) ? `${label} added.` : `${label} is in the list already.`);
      input.value = "";
      onChange();
    },
  });
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-remove]");
    if (!button) return;
    const item = button.closest("[data-entry]");
    const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector("[data-remove]") ?? input;
    announce(`${item.querySelector("[data-label]").textContent} removed.`);
    item.remove();
    next.focus();
    onChange();
  });
  root.addEventListener("change", onChange);

  return {
    // `undefined` restricts nothing, like a missing dimension in the API's JSON.
    read() {
      if (chosen() === "all") return undefined;
      return { allow: chosen() === "none" ? [] : entries() };
    },
    write(stored) {
      const allow = stored?.allow;
      root.querySelector(`input[value=${!allow ? "all" : allow.length ? "only" : "none"}]`).checked = true;
      for (const entry of allow ?? []) add(entry, labels[entry] ?? entry);
    },
    // The unfinished parts of the form, as [path, sentence, place in words]. "Only these" with an empty list would mean
    // the same as "Nothing allowed", so the user must choose that explicitly.
    unclear() {
      if (chosen() !== "only") return [];
      const sentence = leftOver(input) || (list.children.length ? "" : NOTHING_LISTED);
      return sentence ? [[`access.${dimension}`, sentence, `Allowed ${dimension}`]] : [];
    },
    places() {
      const path = `access.${dimension}`;
      const items = chosen() === "only" ? [...list.children] : [];
      return [
        [path, { control: input, host: root }],
        ...items.map((item, place) => [
          `${path}.allow[${place}]`,
          { control: item.querySelector("[data-remove]"), host: item },
        ]),
      ];
    },
  };
}
