// A list with checkboxes: selects all of them, and shows how many are selected.

for (const form of document.querySelectorAll("form[data-at-once]")) {
  const boxes = [...form.querySelectorAll("input[name=id]")];
  const all = form.querySelector("[data-tick-all]");
  const counter = form.querySelector("[data-ticked]");
  const show = () => {
    const count = boxes.filter((box) => box.checked).length;
    if (counter) counter.textContent = count === 0 ? "With the selected ones:" : `${count} selected:`;
    if (all) {
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    }
    form.classList.toggle("has-ticked", count > 0);
    for (const button of form.querySelectorAll("button[name=action]")) button.disabled = count === 0;
  };
  all?.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
  });
  form.addEventListener("change", show);
  // A browser may restore the checkboxes together with the page.
  window.addEventListener("pageshow", show);
  show();
}
