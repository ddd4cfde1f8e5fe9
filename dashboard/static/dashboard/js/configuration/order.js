// Lists whose items people put in order: with the pointer on the item's handle, or with its up and down buttons.
//
// Each item has `[data-handle]`, `[data-up]` and `[data-down]`; an item may hold such a list of its own. `onMove(item,
// place, count)` is called after each move, to announce it.

export function orderable(list, onMove) {
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-up], [data-down]");
    const item = button && itemOf(list, button);
    if (!item) return;
    const other = "up" in button.dataset ? item.previousElementSibling : item.nextElementSibling;
    if (!other) return;
    other["up" in button.dataset ? "before" : "after"](item);
    finish(list, item, onMove);
    // At the end of the list this button is disabled and cannot hold the focus, so the other one gets it.
    (button.disabled ? item.querySelector("up" in button.dataset ? "[data-down]" : "[data-up]") : button).focus();
  });

  list.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest("[data-handle]");
    const item = handle && itemOf(list, handle);
    if (!item || event.button !== 0) return;
    event.preventDefault();
    const from = placeOf(item);
    item.classList.add("is-moving");

    const follow = ({ clientY }) => {
      const before = item.previousElementSibling;
      const after = item.nextElementSibling;
      if (before && clientY < middleOf(before)) before.before(item);
      else if (after && clientY > middleOf(after)) after.after(item);
    };
    const end = () => {
      document.removeEventListener("pointermove", follow);
      document.removeEventListener("pointerup", end);
      document.removeEventListener("pointercancel", end);
      item.classList.remove("is-moving");
      if (placeOf(item) !== from) finish(list, item, onMove);
    };
    document.addEventListener("pointermove", follow);
    document.addEventListener("pointerup", end);
    document.addEventListener("pointercancel", end);
  });
}

// Numbers the items, and disables the buttons of items that cannot move further.
export function settle(list) {
  const items = [...list.children];
  items.forEach((item, index) => {
    own(item, "[data-up]").disabled = index === 0;
    own(item, "[data-down]").disabled = index === items.length - 1;
    const number = own(item, "[data-number]");
    if (number) number.textContent = String(index + 1);
  });
}

export const placeOf = (item) => [...item.parentElement.children].indexOf(item);

// The item's own element, not one of a nested item: it is the first in the document.
const own = (item, selector) => item.querySelector(selector);

const middleOf = (element) => {
  const { top, height } = element.getBoundingClientRect();
  return top + height / 2;
};

// The item of the list that a control belongs to; undefined where it belongs to a nested list.
function itemOf(list, control) {
  const item = control.closest("[data-item]");
  return item?.parentElement === list ? item : null;
}

function finish(list, item, onMove) {
  settle(list);
  onMove(item, placeOf(item), list.children.length);
}
