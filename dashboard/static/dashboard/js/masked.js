// A search text becomes part of an address, and addresses are in histories and logs. So a key is searched by its mask.

const KEY = /^(?:gw[ka]_|sk-|gsk_|xai-|AIza|pplx-|csk-|hf_|fw_|r8_|tgp_)[!-)+-~]{20,}$/;

/** The mask `first10***last4` of a text that looks like a key; any other text unchanged. */
export function masked(text) {
  const trimmed = text.trim();
  return KEY.test(trimmed) ? `${trimmed.slice(0, 10)}***${trimmed.slice(-4)}` : text;
}
