// The daemon's API.

const KEY = "sprite-env token";
/** After so long without a sign of life, in milliseconds, the connection is lost: there is one every 15 s. */
const SILENCE = 45_000;
let token = sessionStorage.getItem(KEY);

/** The token is missing or wrong. */
export class Unauthorized extends Error {}

/** Sends `given` from now on, for as long as this tab is open; fails if no header can hold it. */
export function signIn(given) {
  new Headers({ authorization: `Bearer ${given}` });
  token = given;
  sessionStorage.setItem(KEY, given);
}

/** Asks for a path below where this page is; fails with the daemon's own sentence. */
export async function call(path, { method = "GET", headers = {}, body, signal } = {}) {
  const all = token ? { ...headers, authorization: `Bearer ${token}` } : headers;
  const answer = await fetch(path, { method, headers: all, body, signal, cache: "no-store" });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => null);
  const said = problem?.detail ?? `${answer.status} ${answer.statusText}`;
  throw new (answer.status === 401 ? Unauthorized : Error)(said);
}

/** The lines of an answer, as they come. */
export async function* lines(answer) {
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const all = (rest + value).split("\n");
      rest = all.pop();
      yield* all;
    }
    if (rest !== "") yield rest;
  } finally {
    // Whoever stops to read is done with the connection too.
    await reader.cancel().catch(() => {});
  }
}

/** The events after number `last`, for ever: name and data. A sign of life is one without a name. */
export async function* events(last) {
  const headers = { "last-event-id": String(last) };
  const control = new AbortController();
  const answer = await call("events", { headers, signal: control.signal });
  let [name, data] = ["message", ""];
  let silence;
  const heard = () => {
    clearTimeout(silence);
    const lost = () => control.abort(new Error("nothing was heard of the daemon"));
    silence = setTimeout(lost, SILENCE);
  };
  heard();
  try {
    for await (const line of lines(answer)) {
      heard();
      if (line === "") {
        if (data !== "") yield { name, data: JSON.parse(data) };
        [name, data] = ["message", ""];
      } else if (line.startsWith(":")) {
        yield { name: "" };
      } else if (line.startsWith("event:")) {
        name = line.slice(6).trim();
      } else if (line.startsWith("data:")) {
        data += line.slice(5).trim();
      }
    }
  } finally {
    clearTimeout(silence);
  }
}
