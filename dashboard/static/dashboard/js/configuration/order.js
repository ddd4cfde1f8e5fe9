// Lists whose items people put in order: with the pointer on the item's handle, or with its up and down buttons.
//
// Each item has `[data-handle]`, `[data-up]`, `[data-down]`; an item may hold such a list of its own. `onMove(item, place,
// count)` is told of each move, to be announced.

export function orderable(list, onMove) {
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-up], [data-down]");
    const item = button && itemOf(list, button);
    if (!item) return;
    const other = "up" in button.dataset ? item.previousElementSibling : item.nextElementSibling;
    if (!other) return;
    other["up" in button.dataset ? "before" : "after"](item);
    finish(list, item, onMove);
    // A button at the end of its way is switched off and cannot hold the focus; its partner can.
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

// Number the items, and switch off what cannot move further.
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

// The item's own element, not one of an item within it: it stands first in the document.
const own = (item, selector) => item.querySelector(selector);

const middleOf = (element) => {
  const { top, height } = element.getBoundingClientRect();
  return top + height / 2;
};

// The list's item that a control belongs to; none where it belongs to a list within.
function itemOf(list, control) {
  const item = control.closest("[data-item]");
  return item?.parentElement === list ? item : null;
}

function finish(list, item, onMove) {
  settle(list);
  onMove(item, placeOf(item), list.children.length);
}
