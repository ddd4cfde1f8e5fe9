// Helper functions of the editor's modules.

// Copies the only element of a <template>.
export const cloned = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

// Announces to screen readers what has just happened. With the pause they read the same text twice if it comes twice.
export function announcer(region) {
  return (text) => {
    region.textContent = "";
    setTimeout(() => (region.textContent = text), 50);
  };
}

let numbered = 0;

// Gives an element an ID if it has none, so that a label or a link can refer to it.
export const idOf = (element) => (element.id ||= `part-${++numbered}`);

// The fault of a picker with a typed text that was not picked. Without it, the text would be lost silently.
export const leftOver = (input) =>
  input.value.trim() ? `“${input.value.trim()}” is typed here but not added. Pick it, or empty the field.` : "";
