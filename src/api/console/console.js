// The console: the machines' charts with what they are doing now, what can be done, and the steps
// that led there.

import { Actions, Controls } from "./actions.js";
import { Unauthorized, call, events, signIn } from "./api.js";
import { Chart } from "./charts.js";
import { byId, make, say, tell } from "./elements.js";
import { Journal } from "./journal.js";
import { Steps } from "./steps.js";

/** With more components than this their charts are drawn when they are asked for. */
const OPEN = 8;
/** The pause before a lost connection is tried again, in milliseconds. */
const AGAIN = 1000;

const kindOf = (machine) => machine.replace(/-\d+$/, "");
const pause = (time) => new Promise((done) => setTimeout(done, time));

let diagrams; // what the daemon says of each kind of machine
let status; // the daemon's, as it was told last
let journal; // the daemon's
let opened = null; // a journal from a file, which is looked at instead
let moment = null; // the step whose moment is shown; none = now
let cards = new Map(); // the charts by machine
let isConnected = false;
let isDrawing = false;

const looked = () => opened ?? journal;
const nameOf = (machine) => {
  const place = Number(machine.split("-")[1]);
  const components = opened ? [] : Object.entries(status?.components ?? {});
  const name = components.find(([, part]) => part.place === place)?.[0];
  return machine.startsWith("component-") ? (name ?? `component ${place}`) : machine;
};
const partOf = (machine) =>
  machine === "process" ? status?.process
  : kindOf(machine) === "component" ? status?.components[nameOf(machine)]
  : undefined;
const actions = new Actions(draw);
const steps = new Steps({
  nameOf,
  chosen: choose,
  isOf: (step, arrow) => cards.get(arrow.machine)?.chart.isOf(step, arrow) ?? false,
});

/** Shows the moment after a step; now, without one. */
function choose(step) {
  moment = step;
  draw();
}

/** The buttons of a machine that has some. */
function controlsOf(machine) {
  if (machine === "process") return new Controls("process", "process", "the main process");
  if (kindOf(machine) !== "component") return null;
  const name = nameOf(machine);
  return new Controls("component", `components/${encodeURIComponent(name)}`, name);
}

/** One machine: its name, its state in words, its chart. */
function card(machine, place, isOpen) {
  const chart = new Chart(machine, diagrams[kindOf(machine)], (arrow) => {
    byId("large").close();
    steps.only(arrow);
    byId("steps").scrollIntoView({ block: "nearest" });
  });
  const about = make("span", { className: "about" });
  const picture = make("div", { className: "picture" });
  const enlarge = make("button", { type: "button", className: "enlarge" }, "Enlarge");
  const controls = opened ? null : controlsOf(machine);
  const buttons = make("span", { className: "buttons" }, ...(controls?.buttons ?? []));
  const tools = make("div", { className: "tools" }, buttons, enlarge);
  const summary = make("summary", {}, make("b", {}, nameOf(machine)), " ", about);
  const details = make("details", { open: isOpen }, summary, tools, picture);
  const drawn = () => details.open && chart.draw(picture);
  details.addEventListener("toggle", drawn);
  enlarge.addEventListener("click", () => {
    if (!chart.svg) return;
    const [dialog, within] = [byId("large"), document.querySelector("#large > div")];
    within.replaceChildren(chart.svg);
    dialog.addEventListener("close", () => picture.append(chart.svg), { once: true });
    dialog.showModal();
  });
  place.append(details);
  return { chart, about, controls, drawn };
}

/** Makes the cards anew for the machines of the journal that is looked at. */
function lay() {
  const machines = [...looked().states.keys()];
  const names = `${Boolean(opened)} ${machines.map(nameOf).join()}`;
  if (names === lay.made) return;
  lay.made = names;
  byId("system").replaceChildren();
  byId("parts").replaceChildren();
  const few = machines.length - 3 <= OPEN;
  const laid = (machine) => {
    const isSystem = machine === "system";
    const isOpen = isSystem || few || kindOf(machine) !== "component";
    return [machine, card(machine, byId(isSystem ? "system" : "parts"), isOpen)];
  };
  cards = new Map(machines.map(laid));
}

/** What a process is, in words. */
function described(part) {
  if (!part) return "";
  const words = [
    part.pid && `process ${part.pid}`,
    part.restarts > 0 && `${part.restarts} restarts`,
    part.last_exit && `ended last: ${part.last_exit}`,
  ];
  return words.filter(Boolean).map((word) => ` · ${word}`).join("");
}

/** Shows everything as it is, at the next frame. */
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    if (!looked() || !diagrams) return;
    lay();
    // It may be too long ago by now.
    if (moment && !looked().steps.includes(moment)) moment = null;
    const states = moment ? looked().at(moment) : looked().states;
    const isNow = !moment && !opened;
    const usable = isNow && isConnected ? status : null;
    for (const [machine, { chart, about, controls, drawn }] of cards) {
      const state = states.get(machine);
      drawn();
      chart.show(state, looked().lastOf(machine, moment));
      const part = partOf(machine);
      say(about, chart.path(state).join(" › ") + (isNow ? described(part) : ""));
      about.classList.toggle("failed", /Failed/.test(state));
      controls?.show(usable, part);
    }
    const waits = cards.get("system").chart.awaited(states.get("system"));
    const terms = waits.flatMap(([event, meaning]) => [
      make("dt", {}, event), make("dd", {}, meaning.replaceAll("`", "")),
    ]);
    byId("awaited").replaceChildren(...terms);
    byId("past").hidden = isNow;
    const where = opened ? "A journal from a file" : "The past";
    const at = moment ? `: step ${moment.seq}, ${nameOf(moment.machine)}: ${moment.event}` : "";
    say(byId("past").firstElementChild, where + at);
    steps.show(looked(), moment);
    if (status) head(usable);
  });
}

function head(usable) {
  const state = status.state.replaceAll(" > ", " › ");
  document.title = isConnected ? `${state} – sprite-env` : "not connected – sprite-env";
  say(byId("state"), isConnected ? state : `last seen: ${state}`);
  byId("state").classList.toggle("failed", /Failed/.test(state));
  const since = new Date(status.since);
  const operation = status.operation === "Idle" ? "" : ` · operation: ${status.operation}`;
  say(byId("since"), `since ${since.toLocaleString()}${operation} · ${status.version}`);
  const last = status.last_failure && `last failure: ${status.last_failure}`;
  const warnings = [last, ...(status.warnings ?? [])].filter(Boolean);
  byId("failure").hidden = warnings.length === 0;
  byId("failure").classList.toggle("failed", !/Serving|Operating/.test(state));
  say(byId("failure"), warnings.join(" · "));
  actions.show(usable, status.checkpoint_driver, status.operation);
}

let isAsking = false;
let asksAgain = false;
/** Asks for the status once more; wishes that come meanwhile are one more request. */
async function refresh() {
  asksAgain = isAsking;
  if (isAsking) return;
  isAsking = true;
  try {
    await pause(100);
    const { version } = status;
    status = await (await call("status")).json();
    // Another program has another page.
    if (status.version !== version) location.reload();
    draw();
  } catch (error) {
    // The stream of steps tells of a lost connection.
    console.debug(error);
  }
  isAsking = false;
  if (asksAgain) refresh();
}

/** Loads everything that the daemon keeps. */
async function load() {
  const text = await (await call("journal")).text();
  const before = opened ? null : moment;
  journal = Journal.parse(text);
  if (before) moment = journal.same(before);
}

/** Follows the daemon's steps until everything must be loaded anew; fails with the connection. */
async function follow() {
  status = await (await call("status")).json();
  await load();
  isConnected = true;
  byId("token").hidden = true;
  document.querySelector("main").hidden = false;
  byId("connection").hidden = true;
  draw();
  for await (const { name, data } of events(journal.last)) {
    if (name === "step" && !journal.add(data)) return;
    // Steps are missing, or the machines are others.
    if (name === "gap" || name === "anew") return;
    draw();
    refresh();
  }
  throw new Error("the daemon has ended the connection");
}

function ask(error) {
  say(byId("state"), "A token is needed");
  byId("token").hidden = false;
  document.querySelector("main").hidden = true;
  const alert = byId("token").querySelector("[role=alert]");
  const input = byId("token").querySelector("input");
  alert.textContent = ask.before ? error.message : "";
  ask.before = true;
  return new Promise((done) => {
    byId("token").onsubmit = (event) => {
      event.preventDefault();
      try {
        signIn(input.value);
        done();
      } catch {
        alert.textContent = "That is no token: it has characters that cannot be sent.";
      }
      input.value = "";
    };
    input.focus();
  });
}

async function run() {
  for (;;) {
    try {
      diagrams ??= await (await call("console/charts.json")).json();
      await follow();
      await pause(100);
    } catch (error) {
      isConnected = false;
      if (error instanceof Unauthorized) {
        await ask(error);
        continue;
      }
      byId("connection").hidden = false;
      say(byId("connection"), `Not connected: ${error.message}. Trying again…`);
      document.title = "not connected – sprite-env";
      draw();
      await pause(AGAIN);
    }
  }
}

async function look(file) {
  try {
    opened = Journal.parse(await file.text(), Infinity);
    moment = null;
  } catch (error) {
    tell(`${file.name} cannot be looked at: ${error.message}`, true);
  }
  draw();
}

byId("live").addEventListener("click", () => {
  opened = null;
  byId("open").value = "";
  choose(null);
});
byId("open").addEventListener("change", ({ target }) => target.files[0] && look(target.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
});
byId("download").addEventListener("click", async () => {
  try {
    // A link would carry no token.
    const blob = await (await call("journal")).blob();
    const link = make("a", { href: URL.createObjectURL(blob), download: "journal.jsonl" });
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    tell(`The journal cannot be downloaded: ${error.message}`, true);
  }
});
run();
