// The page that shows a configuration: suggestions for the model to test.

import { choices } from "./choices.js";

const form = document.querySelector("[data-test]");
const model = form.elements.namedItem("model");

choices(model.parentElement, {
  url: form.dataset.choicesUrl,
  free: true,
  onPick({ value }) {
    model.value = value;
    form.requestSubmit();
  },
});
