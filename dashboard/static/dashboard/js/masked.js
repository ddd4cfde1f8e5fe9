// A search text becomes part of an address, and addresses are in histories and logs. So a key is searched by its mask.
// The shape of a key and the length of a mask come from the server (gateway_core.redaction).

const { key, lead, tail } = document.body.dataset.masks ? JSON.parse(document.body.dataset.masks) : {};
const KEY = key && new RegExp(key);

/** The mask `first10***last4` of a text that looks like a key; any other text unchanged. */
export function masked(text) {
  const trimmed = text.trim();
  return KEY?.test(trimmed) ? `${trimmed.slice(0, lead)}***${trimmed.slice(-tail)}` : text;
}

// IDs of ours: a prefix and 26 characters.
const ID = /^[a-z]+_[0-7][0-9a-z]{25}$/;
const SHORTEST_KEY = 20;

/**
 * What a list of keys is searched for: a text that may be a key of any shape becomes its beginning, which is all that
 * such a list looks at.
 */
export function beginningOfKey(text) {
  const shown = masked(text).trim();
  const mayBeKey = shown.length >= SHORTEST_KEY && !/[\s*]/.test(shown) && !ID.test(shown);
  return mayBeKey ? shown.slice(0, lead) : shown;
}
