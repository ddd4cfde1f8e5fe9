// What is searched for stands in addresses, and those in histories and logs: a whole key is looked for by its mask.

const KEY = /^(?:gw[ka]_|sk-|gsk_|xai-|AIza|pplx-|csk-|hf_|fw_|r8_|tgp_)[!-)+-~]{20,}$/;

/** `first10***last4` of what looks like a key; any other text as it is. */
export function masked(text) {
  const trimmed = text.trim();
  return KEY.test(trimmed) ? `${trimmed.slice(0, 10)}***${trimmed.slice(-4)}` : text;
}
