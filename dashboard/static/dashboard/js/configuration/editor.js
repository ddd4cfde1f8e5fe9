// The editor of configurations. The browser sends the API's own JSON; the server validates it by the API's own rules,
// and returns faults by JSON path.

import { faults } from "./faults.js";
import { announcer } from "./parts.js";
import { routing } from "./routing.js";
import { scope } from "./scope.js";
import { testing } from "./testing.js";
import { asCurl, changes, masked } from "./wire.js";

const page = JSON.parse(document.getElementById("editor-data").textContent);
const form = document.getElementById("configuration");
const announce = announcer(document.getElementById("announcements"));
const parts = { url: page.choices, labels: page.labels, managed: page.managed, announce, onChange: changed };

const texts = ["name", "description", "metadata"].map((name) => [name, form.elements.namedItem(name)]);
const scopes = ["providers", "models"].map((dimension) => [
  dimension,
  scope(form.querySelector(`[data-dimension=${dimension}]`), parts),
]);
const router = routing(form.querySelector("[data-routing]"), parts);
const faultList = faults(document.getElementById("faults"), places);

const token = form.elements.namedItem("csrfmiddlewaretoken");
const account = form.elements.namedItem("form-account");
const KEPT = "What you wrote is still here.";

let loaded = null;
let isLeaving = false;

// The content of the form, as the body of a POST.
function read() {
  const body = {};
  for (const [name, field] of texts) if (field.value) body[name] = field.value;
  const access = scopes.map(([dimension, one]) => [dimension, one.read()]).filter(([, one]) => one);
  if (access.length) body.access = Object.fromEntries(access);
  const rules = router.read();
  if (rules) body.router = rules;
  return body;
}

function places() {
  return [
    ...texts.map(([name, field]) => [name, { control: field, host: field.closest("[data-field]") }]),
    ["access", scopes[0][1].places()[0][1]],
    ...scopes.flatMap(([, one]) => one.places()),
    ...router.places(),
  ];
}

function showText(id, text) {
  document.getElementById(id).textContent = text;
  document.querySelector(`[data-copies=${id}]`).dataset.copy = text;
}

const isChanged = () => loaded !== null && JSON.stringify(read()) !== JSON.stringify(loaded);

function changed() {
  if (loaded === null) return;
  const body = read();
  showText("wire", JSON.stringify(masked(body), null, 2));
  showText("curl", asCurl(page.api, page.id, body));
  form.querySelector("[data-blocked]").hidden = !Object.values(body.access ?? {}).some((one) => !one.allow.length);
  form.querySelector("[data-unsaved]").hidden = !isChanged();
  testing.isStale();
}

// Sends JSON and returns the answer. An answer of something else, as a proxy, becomes an error of the same form.
async function send(url, body, headers = {}) {
  try {
    let answer = await post(url, body, headers);
    // A user who signed in again in another tab has a new token there. A refusal of our own would be JSON.
    if (answer.status === 403 && !isJson(answer) && (await renewToken())) answer = await post(url, body, headers);
    if (answer.ok) return { status: answer.status, answer };
    if (isJson(answer)) return { status: answer.status, error: await answer.json() };
    return { status: answer.status, error: { msg: messageOf(answer), details: {} } };
  } catch {
    return { status: 0, error: { msg: `The server cannot be reached. ${KEPT}`, details: {} } };
  }
}

function post(url, body, headers) {
  // A redirect leads to the sign-in page. Following it would lose the content of the form.
  return fetch(url, {
    method: "POST",
    redirect: "manual",
    headers: {
      "Content-Type": "application/json",
      "X-CSRFToken": token.value,
      "Form-Account": account.value,
      ...headers,
    },
    body: JSON.stringify(body),
  });
}

const isJson = (answer) => (answer.headers.get("Content-Type") ?? "").startsWith("application/json");

function messageOf(answer) {
  if (answer.type === "opaqueredirect")
    return `You are signed out. Sign in again in another tab, then save here. ${KEPT}`;
  return `The server answered ${answer.status}. ${KEPT}`;
}

async function renewToken() {
  const answer = await fetch(page.save, { redirect: "manual" });
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  token.value = fresh.querySelector("#configuration [name=csrfmiddlewaretoken]")?.value ?? "";
  return token.value !== "";
}

// Faults of the form are shown at its controls. Another refusal has only its message.
function refused({ msg, details, places = {} }, consequence = "Nothing was saved.") {
  const count = Object.keys(details).length;
  const message = count ? `${consequence} ${count === 1 ? "One thing" : `${count} things`} to mend:` : msg;
  faultList.show(message, details, places);
}

// The answer to a dialog: the value of the button that closed it, or "" for Escape.
function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

function fill(list, sentences) {
  list.replaceChildren(...sentences.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

// Asks whether access keys may lose what the change takes away from them.
async function isMeant(body) {
  const { answer, error } = await send(page.review, body);
  if (error) return refused(error);
  const { losses, users, hasMoreUsers } = await answer.json();
  if (!losses.length || !users.length) return true;
  const dialog = document.getElementById("narrowing");
  fill(dialog.querySelector("[data-losses]"), losses);
  fill(dialog.querySelector("[data-users]"), users);
  dialog.querySelector("[data-more]").hidden = !hasMoreUsers;
  return (await ask(dialog)) === "save";
}

// Somebody else has changed the configuration since it was loaded. Asks which version to keep.
async function settleChange() {
  const answer = await fetch(page.now, { redirect: "manual" });
  if (!answer.ok) {
    const text =
      answer.status === 404
        ? "This configuration was deleted meanwhile."
        : "It was changed meanwhile. Reload the page to see how.";
    return refused({ msg: `${text} ${KEPT}`, details: {} });
  }
  const now = await answer.json();
  const dialog = document.getElementById("changed-meanwhile");
  dialog.querySelector("[data-by]").textContent = now.by;
  dialog.querySelector("[data-at]").textContent = new Date(now.at).toLocaleString();
  fill(dialog.querySelector("[data-changes]"), now.changes);
  const choice = await ask(dialog);
  if (choice === "theirs") {
    isLeaving = true;
    location.reload();
  } else if (choice === "mine") {
    page.etag = now.etag;
    await save();
  }
}

async function save() {
  faultList.clear();
  const unclear = [...scopes.flatMap(([, one]) => one.unclear()), ...router.unclear()];
  if (unclear.length) {
    const details = Object.fromEntries(unclear.map(([path, sentence]) => [path, sentence]));
    const places = Object.fromEntries(unclear.map(([path, , place]) => [path, place]));
    return refused({ details, places });
  }
  const body = read();
  // An empty name is sent, so that it is refused. A change without the name would leave it as it is.
  body.name ??= "";
  const sent = page.id ? changes(loaded, body) : body;
  if (page.id && !(await isMeant(sent))) return;
  const { status, answer, error } = await send(
    page.save,
    sent,
    page.id ? { "If-Match": page.etag } : { "Form-Once": page.once },
  );
  if (status === 412) return settleChange();
  if (error) return refused(error);
  isLeaving = true;
  location.assign((await answer.json()).location);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (form.getAttribute("aria-busy") === "true") return;
  form.setAttribute("aria-busy", "true");
  try {
    await save();
  } finally {
    form.removeAttribute("aria-busy");
  }
});
form.addEventListener("input", changed);
addEventListener("beforeunload", (event) => {
  if (!isLeaving && isChanged()) event.preventDefault();
});

testing.start({ page, read, send, refused, clear: faultList.clear });
for (const [name, field] of texts) field.value = page.configuration[name] ?? "";
for (const [dimension, one] of scopes) one.write(page.configuration.access?.[dimension]);
router.write(page.configuration.router);
loaded = page.id ? read() : {};
changed();
document.querySelector("[data-needs-scripts]").remove();
form.hidden = false;
