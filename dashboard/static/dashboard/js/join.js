// The invitation's code is behind the # of the link, which browsers do not send. This script moves it into the form,
// keeps it in this tab in case the user signs in first, and removes it from the address.

const KEPT = "invitation";
const field = document.querySelector("input[name=code]");
const given = decodeURIComponent(window.location.hash.slice(1));

if (given) {
  sessionStorage.setItem(KEPT, given);
  history.replaceState(null, "", window.location.pathname + window.location.search);
}
if (!field.value) field.value = sessionStorage.getItem(KEPT) ?? "";
field.form.addEventListener("submit", () => sessionStorage.removeItem(KEPT));
