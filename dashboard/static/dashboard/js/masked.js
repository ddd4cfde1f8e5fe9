// A search text becomes part of an address, and addresses are in histories and logs. So a key is searched by its mask.
// The shape of a key and the length of a mask come from the server (gateway_core.redaction).

const { key, lead, tail } = document.body.dataset.masks ? JSON.parse(document.body.dataset.masks) : {};
const KEY = key && new RegExp(key);

/** The mask `first10***last4` of a text that looks like a key; any other text unchanged. */
export function masked(text) {
  const trimmed = text.trim();
  return KEY?.test(trimmed) ? `${trimmed.slice(0, lead)}***${trimmed.slice(-tail)}` : text;
}
