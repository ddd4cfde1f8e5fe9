// The invitation's code stands behind the # of the link, which no browser sends anywhere. It goes into the form, is kept
// in this tab in case somebody signs in first, and disappears from the address.

const KEPT = "invitation";
const field = document.querySelector("input[name=code]");
const given = decodeURIComponent(window.location.hash.slice(1));

if (given) {
  sessionStorage.setItem(KEPT, given);
  history.replaceState(null, "", window.location.pathname + window.location.search);
}
if (!field.value) field.value = sessionStorage.getItem(KEPT) ?? "";
field.form.addEventListener("submit", () => sessionStorage.removeItem(KEPT));
