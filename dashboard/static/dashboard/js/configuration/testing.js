// The panel that asks what the data plane would do with the form's present configuration, saved or not.

import { choices } from "./choices.js";

const root = document.getElementById("test");
const result = root.querySelector("[data-result]");
const fault = root.querySelector("[data-fault]");

export const testing = {
  start({ page, read, send, refused, clear }) {
    const model = root.querySelector("[name=model]");
    const fallbacks = root.querySelector("[name=fallbacks]");
    choices(model.parentElement, {
      url: `${page.choices}models`,
      free: true,
      onPick: ({ value }) => {
        model.value = value;
        ask();
      },
    });

    // The attempts that are assumed to fail, until the next question.
    let failing = [];

    async function run() {
      clear();
      fault.hidden = true;
      const { access, router } = read();
      const models = fallbacks.value.split(/[\s,]+/).filter(Boolean);
      const asked = {
        ...(model.value.trim() && { model: model.value.trim() }),
        ...(models.length && { models }),
        surface: root.querySelector("[name=surface]").value,
        assume: { failing },
        ...(access && { access }),
        ...(router && { router }),
      };
      const { answer, error } = await send(page.explain, asked);
      if (error) {
        result.replaceChildren();
        // Faults of the question are shown here, faults of the configuration at its fields.
        const own = Object.entries(error.details).filter(([path]) => /^(models?|surface)\b/.test(path));
        if (own.length === Object.keys(error.details).length) {
          fault.textContent = own.length ? own.map(([, sentence]) => sentence).join(" ") : error.msg;
          fault.hidden = false;
        } else refused(error, "This cannot be tested yet.");
        return;
      }
      const found = new DOMParser().parseFromString(await answer.text(), "text/html");
      result.replaceChildren(...found.body.childNodes);
      result.classList.remove("is-stale");
    }

    function ask() {
      failing = [];
      run();
    }

    root.querySelector("[data-run]").addEventListener("click", ask);
    fallbacks.addEventListener("keydown", (event) => event.key === "Enter" && ask());
    result.addEventListener("click", (event) => {
      const button = event.target.closest("button[name=failing]");
      if (!button) return;
      failing.push(button.value);
      run();
    });
  },

  // The shown answer belongs to an older content of the form.
  isStale() {
    if (result.children.length) result.classList.add("is-stale");
  },
};
