// Small things that the editor's modules share.

// A copy of the one element in a <template>.
export const cloned = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

// Tells who cannot see it what has just happened. The pause lets a text that is said twice be heard twice.
export function announcer(region) {
  return (text) => {
    region.textContent = "";
    setTimeout(() => (region.textContent = text), 50);
  };
}

let numbered = 0;

// An ID for an element that has none, so that a label or a link may name it.
export const idOf = (element) => (element.id ||= `part-${++numbered}`);

// What is wrong with a picker in which something stands that was never picked; nothing else would tell that it is lost.
export const leftOver = (input) =>
  input.value.trim() ? `“${input.value.trim()}” is typed here but not added. Pick it, or empty the field.` : "";
