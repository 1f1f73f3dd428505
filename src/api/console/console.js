// The console: the machines' charts with what they are doing now, what can be done, and the steps
// that led there.

import { Actions, controls } from "./actions.js";
import { Unauthorized, call, events, make, signIn } from "./api.js";
import { Chart } from "./charts.js";
import { Journal } from "./journal.js";
import { Steps } from "./steps.js";

/** With more components than this their charts are drawn when they are asked for. */
const OPEN = 8;
/** The pause before a lost connection is tried again, in milliseconds. */
const AGAIN = 1000;

const byId = (id) => document.getElementById(id);
const kindOf = (machine) => machine.replace(/-\d+$/, "");
const pause = (time) => new Promise((done) => setTimeout(done, time));

let diagrams; // what the daemon says of each kind of machine
let status; // the daemon's, as it was told last
let journal; // the daemon's
let opened = null; // a journal from a file, which is looked at instead
let moment = null; // the step whose moment is shown; none = now
let cards = new Map(); // the charts by machine
let isDrawing = false;

const looked = () => opened ?? journal;
const nameOf = (machine) => {
  const place = Number(machine.split("-")[1]);
  const components = opened ? [] : Object.entries(status?.components ?? {});
  const name = components.find(([, part]) => part.place === place)?.[0];
  return machine.startsWith("component-") ? (name ?? `component ${place}`) : machine;
};
const actions = new Actions();
const steps = new Steps({
  nameOf,
  chosen: (step) => choose(step === moment ? null : step),
  isOf: (step, arrow) => cards.get(arrow.machine)?.chart.isOf(step, arrow) ?? false,
});

/** Shows the moment after a step; now, without one. */
function choose(step) {
  moment = step;
  draw();
}

/** One machine: its name, its state in words, its chart. */
function card(machine, place, isOpen) {
  const chart = new Chart(machine, diagrams[kindOf(machine)], (arrow) => {
    steps.only(arrow);
    byId("steps").scrollIntoView({ block: "nearest" });
  });
  const about = make("span", { className: "about" });
  const picture = make("div", { className: "picture" });
  const enlarge = make("button", { type: "button", className: "enlarge" }, "Enlarge");
  const tools = make("div", { className: "tools" }, make("span", { className: "buttons" }), enlarge);
  const summary = make("summary", {}, make("b", {}, nameOf(machine)), " ", about);
  const details = make("details", { open: isOpen }, summary, tools, picture);
  const drawn = () => details.open && chart.draw(picture);
  details.addEventListener("toggle", drawn);
  enlarge.addEventListener("click", () => {
    const [dialog, within] = [byId("large"), document.querySelector("#large > div")];
    within.replaceChildren(chart.svg);
    dialog.addEventListener("close", () => picture.append(chart.svg), { once: true });
    dialog.showModal();
  });
  drawn();
  place.append(details);
  return { chart, about, buttons: tools.firstChild };
}

/** Makes the cards anew for the machines of the journal that is looked at. */
function lay() {
  const machines = [...looked().states.keys()];
  const names = machines.map(nameOf).join();
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
    const states = moment ? looked().at(moment) : looked().states;
    const isNow = !moment && !opened;
    for (const [machine, { chart, about, buttons }] of cards) {
      const state = states.get(machine);
      chart.show(state, looked().lastOf(machine, moment));
      const name = nameOf(machine);
      const part = machine === "process" ? status?.process : status?.components[name];
      about.textContent = chart.path(state).join(" › ") + (isNow ? described(part) : "");
      about.className = `about ${/Failed/.test(state) ? "failed" : ""}`;
      const path = `components/${encodeURIComponent(name)}`;
      const verbs = isNow && kindOf(machine) === "component";
      buttons.replaceChildren(...(verbs ? controls("component", path, name, status) : []));
    }
    const waits = cards.get("system").chart.awaited(states.get("system"));
    const terms = waits.flatMap(([event, meaning]) => [
      make("dt", {}, event), make("dd", {}, meaning.replaceAll("`", "")),
    ]);
    byId("awaited").replaceChildren(...terms);
    byId("possible").classList.toggle("past", !isNow);
    byId("past").hidden = isNow;
    const where = opened ? "A journal from a file" : "The past";
    const at = moment ? `: step ${moment.seq}, ${nameOf(moment.machine)}: ${moment.event}` : "";
    byId("past").firstElementChild.textContent = where + at;
    steps.show(looked(), moment);
    if (status) head();
  });
}

function head() {
  const state = status.state.replaceAll(" > ", " › ");
  document.title = `${state} – sprite-env`;
  if (byId("state").textContent !== state) byId("state").textContent = state;
  byId("state").classList.toggle("failed", /Failed/.test(state));
  const since = new Date(status.since);
  const operation = status.operation === "Idle" ? "" : ` · operation: ${status.operation}`;
  byId("since").textContent = `since ${since.toLocaleString()}${operation} · ${status.version}`;
  const warnings = [status.last_failure, ...(status.warnings ?? [])].filter(Boolean);
  byId("failure").hidden = warnings.length === 0;
  byId("failure").textContent = warnings.join(" · ");
  actions.show(status, diagrams.system.requests);
}

let isAsking = false;
/** Asks for the status once more, soon; several wishes are one request. */
async function refresh() {
  if (isAsking) return;
  isAsking = true;
  await pause(100);
  isAsking = false;
  try {
    const before = Object.keys(status?.components ?? {}).join();
    status = await (await call("status")).json();
    if (Object.keys(status.components).join() !== before) await load();
    draw();
  } catch (error) {
    // The stream of steps tells of a lost connection.
    console.debug(error);
  }
}

/** Loads everything that the daemon keeps. */
async function load() {
  const text = await (await call("journal")).text();
  journal = Journal.parse(text);
  if (!opened) moment = null;
  draw();
}

/** Follows the daemon's steps until the connection is lost. */
async function follow() {
  status = await (await call("status")).json();
  await load();
  byId("token").hidden = true;
  document.querySelector("main").hidden = false;
  byId("connection").hidden = true;
  for await (const { name, data } of events(journal.last)) {
    // Steps are missing, or they are of a daemon that was started anew.
    if (name !== "step" || (!journal.add(data) && data.seq !== journal.last)) await load();
    draw();
    refresh();
  }
}

function ask(error) {
  byId("state").textContent = "A token is needed";
  byId("token").hidden = false;
  document.querySelector("main").hidden = true;
  const alert = byId("token").querySelector("[role=alert]");
  const input = byId("token").querySelector("input");
  alert.textContent = ask.before ? error.message : "";
  ask.before = true;
  return new Promise((done) => {
    byId("token").onsubmit = (event) => {
      event.preventDefault();
      signIn(input.value);
      input.value = "";
      done();
    };
    input.focus();
  });
}

async function run() {
  diagrams = await (await fetch("console/charts.json")).json();
  for (;;) {
    try {
      await follow();
      throw new Error("the daemon has ended the connection");
    } catch (error) {
      if (error instanceof Unauthorized) {
        await ask(error);
        continue;
      }
      byId("connection").hidden = false;
      byId("connection").textContent = `Not connected: ${error.message}. Trying again…`;
      document.title = "not connected – sprite-env";
      await pause(AGAIN);
    }
  }
}

async function look(file) {
  try {
    opened = Journal.parse(await file.text());
    moment = null;
  } catch (error) {
    byId("outcome").classList.add("failed");
    byId("outcome").textContent = `${file.name} cannot be looked at: ${error.message}`;
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
  // A link would carry no token.
  const blob = await (await call("journal")).blob();
  const link = make("a", { href: URL.createObjectURL(blob), download: "journal.jsonl" });
  link.click();
  URL.revokeObjectURL(link.href);
});
run();
