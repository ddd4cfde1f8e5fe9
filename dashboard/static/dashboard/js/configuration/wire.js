// The JSON of a configuration as the management API reads it. Pure: no document, no network.

const HALVES = ["name", "description", "metadata", "access", "router"];

// A body with the values of new provider keys masked, to be shown and copied.
export function masked(body) {
  return JSON.parse(JSON.stringify(body), (name, value) => (name === "value" ? "***" : value));
}

// The body of a PATCH: each part that differs, as a whole. null clears a part.
export function changes(before, after) {
  const changed = HALVES.filter((half) => JSON.stringify(before[half]) !== JSON.stringify(after[half]));
  return Object.fromEntries(changed.map((half) => [half, after[half] ?? null]));
}

// The whole configuration as a PATCH: missing parts are cleared, so that the result is the same each time.
export function whole(body) {
  return Object.fromEntries(HALVES.map((half) => [half, body[half] ?? null]));
}

// A command that a shell can run once AI_GATEWAY_API_KEY is set.
export function asCurl(uri, id, body) {
  const text = JSON.stringify(masked(id ? whole(body) : body), null, 2);
  const [method, target] = id ? ["PATCH", `${uri}/${id}`] : ["POST", uri];
  return [
    `curl -sS -X ${method} '${target}' \\`,
    `  -H "Authorization: Bearer $AI_GATEWAY_API_KEY" \\`,
    `  -H 'Content-Type: application/json' \\`,
    // Within single quotes only a single quote is special to a shell.
    `  -d '${text.replaceAll("'", `'\\''`)}'`,
  ].join("\n");
}

// A path such as `router.rules[0].steps[1].keys`, then the shorter paths above it, the nearest first.
export function pathsUp(path) {
  const paths = [path];
  while (/[.[]/.test(path)) {
    path = path.replace(/(\.[^.[\]]*|\[[^\]]*\])$/, "");
    if (path === paths.at(-1)) break;
    paths.push(path);
  }
  return paths;
}
