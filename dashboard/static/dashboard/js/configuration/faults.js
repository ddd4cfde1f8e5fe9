// The API's faults, each at the control that its JSON path means, and all of them in a summary that links there.

import { idOf } from "./parts.js";
import { pathsUp, spoken } from "./wire.js";

export function faults(summary, placesNow) {
  const list = summary.querySelector("ul");
  let shown = [];

  function clear() {
    for (const { control, text } of shown) {
      const described = (control.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id !== text.id);
      if (described.length) control.setAttribute("aria-describedby", described.join(" "));
      else control.removeAttribute("aria-describedby");
      control.removeAttribute("aria-invalid");
      text.remove();
    }
    shown = [];
    summary.hidden = true;
  }

  // Shows a text for each path. What no control is for stands in the summary alone.
  function show(message, details) {
    clear();
    const places = new Map(placesNow());
    const order = [...places.keys()];
    const found = Object.entries(details).map(([path, sentence]) => {
      const nearest = pathsUp(path).find((one) => places.has(one));
      return { path, sentence, nearest, rank: nearest ? order.indexOf(nearest) : order.length };
    });
    summary.querySelector("[data-message]").textContent = message;
    // In the order of the form, whatever the order of the answer.
    list.replaceChildren(...found.sort((one, other) => one.rank - other.rank).map((fault) => told(fault, places)));
    summary.hidden = false;
    summary.scrollIntoView({ block: "start" });
    summary.focus();
  }

  // One fault: its text at the control, and the summary's item, which leads there.
  function told({ path, sentence, nearest }, places) {
    const item = document.createElement("li");
    const words = spoken(path);
    const said = words ? `${words}: ${sentence}` : sentence;
    if (!nearest) {
      item.textContent = said;
      return item;
    }
    const { control, host } = places.get(nearest);
    const text = Object.assign(document.createElement("p"), { className: "fault", textContent: sentence });
    host.append(text);
    control.setAttribute("aria-invalid", "true");
    const described = [control.getAttribute("aria-describedby"), idOf(text)];
    control.setAttribute("aria-describedby", described.filter(Boolean).join(" "));
    shown.push({ control, text });
    const box = control.closest("details");
    if (box) box.open = true;
    const link = Object.assign(document.createElement("a"), { href: `#${idOf(control)}`, textContent: said });
    link.addEventListener("click", (event) => {
      event.preventDefault();
      control.focus();
      control.scrollIntoView({ block: "center" });
    });
    item.append(link);
    return item;
  }

  return { clear, show };
}
