// Shows the API's faults, each at the control of its JSON path, and all of them in a summary with links.

import { idOf } from "./parts.js";
import { pathsUp } from "./wire.js";

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

  // Shows a text for each path, with its place in words. A fault without a control is shown in the summary only.
  function show(message, details, words) {
    clear();
    const places = new Map(placesNow());
    const order = [...places.keys()];
    const found = Object.entries(details).map(([path, sentence]) => {
      const nearest = pathsUp(path).find((one) => places.has(one));
      return { place: words[path], sentence, nearest, rank: nearest ? order.indexOf(nearest) : order.length };
    });
    summary.querySelector("[data-message]").textContent = message;
    // In the order of the form, not in the order of the answer.
    list.replaceChildren(...found.sort((one, other) => one.rank - other.rank).map((fault) => showFault(fault, places)));
    summary.hidden = false;
    summary.scrollIntoView({ block: "start" });
    summary.focus();
  }

  // Shows one fault at its control, and returns the summary's item, which links there.
  function showFault({ place, sentence, nearest }, places) {
    const item = document.createElement("li");
    const said = place ? `${place}: ${sentence}` : sentence;
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
