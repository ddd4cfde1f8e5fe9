// The routing builder: rules, their steps, and the keys of a step. The elements of the page hold the state. The value
// of a new key is in no other place.

import { choices } from "./choices.js";
import { orderable, placeOf, settle } from "./order.js";
import { cloned, idOf, leftOver } from "./parts.js";

const NOUNS = { rule: "Rule", step: "Step", key: "Key" };

export function routing(root, { url, labels, managed, announce, onChange }) {
  const rules = root.querySelector("[data-rules]");
  const undo = root.querySelector("[data-undo]");
  // The name of a rule's subject (a provider or a model) for users.
  const called = new Map(Object.entries(labels));
  let removed = null;

  const items = (list) => [...list.children];
  const stepsOf = (rule) => rule.querySelector("[data-steps]");
  const keysOf = (step) => step.querySelector("[data-keys]");
  const providerOf = (rule) => rule.dataset.provider || (rule.dataset.model ?? "").split(":")[0];
  const typeOf = (step) => step.querySelector("input[type=radio]:checked").value;

  function ordered(list) {
    orderable(list, (item, place, count) => {
      announce(`${NOUNS[item.dataset.item]} moved to place ${place + 1} of ${count}.`);
      changed();
    });
  }

  function changed() {
    for (const list of [rules, ...root.querySelectorAll("[data-steps], [data-keys]")]) settle(list);
    root.querySelector("[data-no-rules]").hidden = rules.children.length > 0;
    onChange();
  }

  // Rules.

  function addRule(stored = {}) {
    const rule = cloned("rule-template");
    const input = rule.querySelector("[data-subject] input");
    choices(rule.querySelector("[data-subject]"), {
      url: `${url}subjects`,
      free: true,
      onPick: ({ value, label }) => {
        called.set(value, label);
        setSubject(rule, value);
        announce(`The rule is for ${input.value}.`);
        onChange();
      },
    });
    // A text that was typed and not picked counts too.
    input.addEventListener("change", () => {
      if (input.value.trim() !== subjectOf(rule)) setSubject(rule, input.value.trim());
      onChange();
    });
    ordered(stepsOf(rule));
    rules.append(rule);
    if (stored.provider) rule.dataset.provider = stored.provider;
    if (stored.model) rule.dataset.model = stored.model;
    input.value = subjectOf(rule);
    for (const step of stored.steps ?? []) addStep(rule, step);
    showSubject(rule);
    return rule;
  }

  const subjectOf = (rule) => rule.dataset.model || rule.dataset.provider || "";

  function setSubject(rule, subject) {
    delete rule.dataset.provider;
    delete rule.dataset.model;
    if (subject) rule.dataset[/[:/]/.test(subject) ? "model" : "provider"] = subject;
    rule.querySelector("[data-subject] input").value = subject;
    showSubject(rule);
  }

  function showSubject(rule) {
    const provider = providerOf(rule);
    const subject = subjectOf(rule);
    rule.querySelector("[data-subject-name]").textContent = called.get(subject) ?? (subject || "…");
    for (const step of items(stepsOf(rule))) showStep(step, provider);
  }

  // Steps.

  function addStep(rule, stored = {}) {
    const step = cloned("step-template");
    const group = `type-${idOf(step)}`;
    for (const radio of step.querySelectorAll("input[type=radio]")) radio.name = group;
    const type = stored.type ?? (managed.includes(providerOf(rule)) && !items(stepsOf(rule)).length ? "ngrok" : "user");
    step.querySelector(`input[value=${type}]`).checked = true;
    showStrategy(step, stored.keySelectionStrategy ?? "");
    choices(step.querySelector("[data-key-choices]"), {
      url: `${url}provider-keys`,
      parameters: () => ({ provider: providerOf(rule) }),
      emptyText: () =>
        providerOf(rule) ? "No stored key is like this. Create one in place." : "Say first what the rule is for.",
      onPick({ value, label, note }) {
        addKey(step, { id: value, name: label, keyRedacted: note });
        step.querySelector("[data-key-choices] input").value = "";
        announce(`${label} added.`);
        changed();
      },
    });
    ordered(keysOf(step));
    stepsOf(rule).append(step);
    for (const key of stored.keys ?? []) addKey(step, key);
    showStep(step, providerOf(rule));
    return step;
  }

  function showStep(step, provider) {
    const radio = step.querySelector("input[value=ngrok]");
    const offered = managed.includes(provider);
    // A key that is already chosen can be chosen again; the API then reports the fault.
    radio.disabled = !offered && !radio.checked;
    step.querySelector("[data-not-managed]").hidden = offered || !provider;
    step.querySelector("[data-user]").hidden = typeOf(step) !== "user";
    step.querySelector("[data-managed]").hidden = typeOf(step) !== "ngrok";
    for (const weight of step.querySelectorAll("[data-weighted]"))
      weight.hidden = strategyOf(step).value !== "weighted";
  }

  const strategyOf = (step) => step.querySelector("[data-strategy]");

  function showStrategy(step, stored) {
    const select = strategyOf(step);
    // What the API wrote is sent back as it was written: `ordered` too, and a strategy of a newer release.
    if (![...select.options].some((option) => option.value === stored)) {
      const known = stored === "ordered";
      select.add(new Option(known ? select.options[0].text : stored, stored));
      if (known) select.options[0].remove();
    }
    select.value = stored;
  }

  // Keys.

  function addKey(step, stored) {
    const key = cloned(stored ? "stored-key-template" : "new-key-template");
    if (stored) {
      key.dataset.id = stored.id;
      key.querySelector("[data-name]").textContent = stored.name;
      key.querySelector("[data-mask]").textContent = stored.keyRedacted;
      key.querySelector("[data-weight]").value = stored.weight ?? "";
    }
    keysOf(step).append(key);
    showStep(step, providerOf(step.closest("[data-item=rule]")));
    return key;
  }

  // A removed element can be restored until the next one is removed.

  function remove(item) {
    const list = item.parentElement;
    removed = { item, list, place: placeOf(item) };
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    const noun = NOUNS[item.dataset.item].toLowerCase();
    undo.querySelector("[data-undo-text]").textContent = `The ${noun} was removed.`;
    undo.hidden = false;
    announce(`The ${noun} was removed. You can undo this.`);
    changed();
    (next?.querySelector("[data-remove]") ?? undo.querySelector("button")).focus();
  }

  undo.querySelector("button").addEventListener("click", () => {
    const { item, list, place } = removed;
    list.insertBefore(item, list.children[place] ?? null);
    undo.hidden = true;
    announce("It is back.");
    changed();
    item.querySelector("[data-remove]").focus();
  });

  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-add], [data-remove]");
    if (!button) return;
    if ("remove" in button.dataset) return remove(button.closest("[data-item]"));
    const within = button.closest("[data-item]");
    let focus;
    if (button.dataset.add === "rule") focus = addRule().querySelector("input");
    else if (button.dataset.add === "step") focus = addStep(within).querySelector("input:checked");
    else focus = addKey(within).querySelector("input");
    changed();
    focus.focus();
  });
  root.addEventListener("input", onChange);
  root.addEventListener("change", (event) => {
    const step = event.target.closest("[data-item=step]");
    if (step && event.target.matches("[type=radio], [data-strategy]"))
      showStep(step, providerOf(step.closest("[data-item=rule]")));
    onChange();
  });

  ordered(rules);

  // Reading the JSON of the API.

  const textsOf = (key) => key.querySelectorAll("input:not([data-weight])");

  function readKey(key) {
    const { value: weight } = key.querySelector("[data-weight]");
    const isWeighted = strategyOf(key.closest("[data-item=step]")).value === "weighted";
    const weighted = isWeighted && weight !== "" ? { weight: Number(weight) } : {};
    if (key.dataset.id) return { id: key.dataset.id, ...weighted };
    const [name, value] = textsOf(key);
    return { name: name.value, value: value.value, ...weighted };
  }

  function readStep(step) {
    const type = typeOf(step);
    const keys = type === "user" ? { keys: items(keysOf(step)).map(readKey) } : {};
    const strategy = strategyOf(step).value;
    return { type, ...keys, ...(strategy && { keySelectionStrategy: strategy }) };
  }

  function readRule(rule) {
    const { provider, model } = rule.dataset;
    return { ...(provider && { provider }), ...(model && { model }), steps: items(stepsOf(rule)).map(readStep) };
  }

  function* placesOf(rule, path) {
    const subject = rule.querySelector("[data-subject]");
    const control = subject.querySelector("input");
    for (const name of ["", ".provider", ".model"]) yield [`${path}${name}`, { control, host: subject }];
    yield [`${path}.steps`, { control: rule.querySelector("[data-add=step]"), host: rule }];
    for (const [s, step] of items(stepsOf(rule)).entries()) {
      const stepPath = `${path}.steps[${s}]`;
      yield [stepPath, { control: step.querySelector("input:checked"), host: step }];
      yield [`${stepPath}.keySelectionStrategy`, { control: strategyOf(step), host: step }];
      yield [`${stepPath}.keys`, { control: step.querySelector("[data-key-choices] input"), host: step }];
      for (const [k, key] of items(keysOf(step)).entries()) {
        const keyPath = `${stepPath}.keys[${k}]`;
        const [name, value] = textsOf(key);
        yield [`${keyPath}.weight`, { control: key.querySelector("[data-weight]"), host: key }];
        yield [keyPath, { control: name ?? key.querySelector("[data-remove]"), host: key }];
        if (name) yield [`${keyPath}.name`, { control: name, host: name.closest("[data-field]") }];
        if (value) yield [`${keyPath}.value`, { control: value, host: value.closest("[data-field]") }];
      }
    }
  }

  return {
    // A router without rules is left out.
    read: () => (rules.children.length ? { rules: items(rules).map(readRule) } : undefined),
    write(stored) {
      for (const rule of stored?.rules ?? []) addRule(rule);
      changed();
    },
    // The unfinished parts of the form, as [path, sentence, place in words].
    unclear: () =>
      items(rules).flatMap((rule, r) =>
        items(stepsOf(rule)).flatMap((step, s) => {
          const sentence = typeOf(step) === "user" && leftOver(step.querySelector("[data-key-choices] input"));
          const place = `Rule ${r + 1}, step ${s + 1}, keys`;
          return sentence ? [[`router.rules[${r}].steps[${s}].keys`, sentence, place]] : [];
        }),
      ),
    places: () => [
      ["router", { control: root.querySelector("[data-add=rule]"), host: root }],
      ...items(rules).flatMap((rule, place) => [...placesOf(rule, `router.rules[${place}]`)]),
    ],
  };
}
