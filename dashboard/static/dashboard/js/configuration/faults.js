// The API's faults, each at the control that its JSON path means, and all of them in a summary that links there.

import { idOf } from "./parts.js";
import { pathsUp, spoken } from "./wire.js";

export function faults(summary, placesNow) {
  const list = summary.querySelector("ul");
  let shown = [];

  function clear() {
    for (const { control, text } of shown) {
      text.remove();
      control.removeAttribute("aria-invalid");
      control.removeAttribute("aria-describedby");
    }
    shown = [];
    summary.hidden = true;
  }

  // Shows a text for each path. What no control is for stands in the summary alone.
  function show(message, details) {
    clear();
    const places = new Map(placesNow());
    summary.querySelector("[data-message]").textContent = message;
    list.replaceChildren(
      ...Object.entries(details).map(([path, sentence]) => {
        const nearest = pathsUp(path).find((one) => places.has(one));
        const item = document.createElement("li");
        const words = spoken(path);
        const said = words ? `${words}: ${sentence}` : sentence;
        if (!nearest) {
          item.textContent = said;
          return item;
        }
        const { control, host } = places.get(nearest);
        const text = Object.assign(document.createElement("p"), { className: "fault", textContent: sentence });
        text.dataset.path = path;
        host.append(text);
        control.setAttribute("aria-invalid", "true");
        control.setAttribute("aria-describedby", [control.getAttribute("aria-describedby"), idOf(text)].filter(Boolean).join(" "));
        shown.push({ control, text });
        const link = Object.assign(document.createElement("a"), { href: `#${idOf(control)}`, textContent: said });
        link.addEventListener("click", (event) => {
          event.preventDefault();
          for (let within = control.closest("details"); within; within = within.parentElement.closest("details")) within.open = true;
          control.focus();
          control.scrollIntoView({ block: "center" });
        });
        item.append(link);
        return item;
      }),
    );
    for (const { control } of shown) for (const box of [control.closest("details")]) if (box) box.open = true;
    summary.hidden = false;
    summary.scrollIntoView({ block: "start" });
    summary.focus();
  }

  return { clear, show };
}
