// The daemon's API.

const KEY = "sprite-env token";
let token = sessionStorage.getItem(KEY);

/** The token is missing or wrong. */
export class Unauthorized extends Error {}

/** Sends `given` from now on, for as long as this tab is open. */
export function signIn(given) {
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
  const text = answer.body.pipeThrough(new TextDecoderStream());
  for (let reader = text.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    const all = (rest + value).split("\n");
    rest = all.pop();
    yield* all;
  }
  if (rest !== "") yield rest;
}

/** The events after number `last`, for ever: name and data. */
export async function* events(last, signal) {
  const answer = await call("events", { headers: { "last-event-id": String(last) }, signal });
  let [name, data] = ["message", ""];
  for await (const line of lines(answer)) {
    if (line === "") {
      if (data !== "") yield { name, data: JSON.parse(data) };
      [name, data] = ["message", ""];
    } else if (line.startsWith("event:")) {
      name = line.slice(6).trim();
    } else if (line.startsWith("data:")) {
      data += line.slice(5).trim();
    }
  }
}

/** An element. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}
