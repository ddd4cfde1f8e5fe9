// A text field with suggestions from the server: the combobox of the ARIA Authoring Practices Guide, with a list.
//
// Markup: <div><input><ul hidden></ul></div>. A picked choice goes to `onPick({value, label, note, …})`, as the server
// sent it. Where the field allows free entry, the typed text can be picked too.

const PAUSE_MS = 120;
// The height in pixels that the bars at the top and the bottom of a page cover.
const MARGIN = 80;
let made = 0;

export function choices(
  root,
  { url, parameters = () => ({}), onPick, free = false, emptyText = () => "Nothing found." },
) {
  const input = root.querySelector("input");
  const list = root.querySelector("ul");
  const identity = `choices-${++made}`;
  let timer = 0;
  let asked = null;
  let offered = [];
  let active = -1;

  list.id = identity;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", identity);
  input.setAttribute("aria-expanded", "false");
  input.autocomplete = "off";
  input.spellcheck = false;

  const options = () => [...list.querySelectorAll("[role=option]")];

  function close() {
    asked?.abort();
    clearTimeout(timer);
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function activate(place) {
    const all = options();
    if (!all.length) return;
    active = (place + all.length) % all.length;
    all.forEach((option, index) => {
      option.setAttribute("aria-selected", String(index === active));
    });
    input.setAttribute("aria-activedescendant", all[active].id);
    all[active].scrollIntoView({ block: "nearest" });
  }

  function pick(place) {
    const item = offered[place];
    close();
    onPick(item);
  }

  function option({ label, note }, index) {
    const item = document.createElement("li");
    item.id = `${identity}-${index}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    item.append(Object.assign(document.createElement("span"), { textContent: label }));
    if (note) item.append(Object.assign(document.createElement("small"), { textContent: note }));
    return item;
  }

  function message(text) {
    const item = document.createElement("li");
    item.className = "choices-message";
    item.textContent = text;
    return item;
  }

  function show(items) {
    const typed = input.value.trim();
    offered = items;
    if (free && typed && !items.some((item) => item.value === typed)) {
      offered = [...items, { value: typed, label: typed, note: "as written" }];
    }
    list.replaceChildren(...(offered.length ? offered.map(option) : [message(emptyText())]));
    list.hidden = false;
    // The list opens above the field where there is no room below.
    list.classList.remove("opens-up");
    const { bottom, height } = list.getBoundingClientRect();
    list.classList.toggle(
      "opens-up",
      bottom > innerHeight - MARGIN && input.getBoundingClientRect().top > height + MARGIN,
    );
    active = -1;
    input.setAttribute("aria-expanded", "true");
    input.removeAttribute("aria-activedescendant");
    if (typed && offered.length) activate(0);
  }

  async function search() {
    asked?.abort();
    const question = new AbortController();
    asked = question;
    const query = new URLSearchParams({ ...parameters(), q: input.value.trim() });
    try {
      const answer = await fetch(`${url}?${query}`, { signal: question.signal, redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const { items } = await answer.json();
      if (question === asked && !question.signal.aborted) show(items);
    } catch {
      if (question.signal.aborted) return;
      // The typed text can still be used; only the suggestions are missing.
      show([]);
      if (!options().length) list.replaceChildren(message("The suggestions could not be loaded."));
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, PAUSE_MS);
  });
  input.addEventListener("click", () => list.hidden && search());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) search();
      else activate(active + (event.key === "ArrowDown" ? 1 : active < 0 ? 0 : -1));
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (event.key === "Enter") {
      // Enter picks a choice. It must not send the unfinished form.
      event.preventDefault();
      const typed = input.value.trim();
      if (active >= 0 && !list.hidden) pick(active);
      else if (free && typed) {
        close();
        onPick({ value: typed, label: typed });
      }
    }
  });
  // This must run before the blur event, which would close the list under the pointer.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const chosen = event.target.closest("[role=option]");
    if (chosen) pick(options().indexOf(chosen));
  });
}
