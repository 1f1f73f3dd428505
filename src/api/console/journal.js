// What a journal says: steps one after the other, and the states of all machines at any of them.

/** So many steps of the daemon's are kept; of older ones only what the machines were then. */
const KEPT = 1000;
/** States in which the end of a process is what is waited for. */
const ENDING = ["Terminating", "Killing"];
/** States in which the end of a pause is. */
const PAUSING = ["Backoff", "Scheduled"];

/** A JSON value of the machines in words: {"Exited": {"Signal": 9}} is Exited(Signal(9)). */
export function words(value) {
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.map(words).join(", ");
  return Object.entries(value).map(([name, inner]) => `${name}(${words(inner)})`).join(", ");
}

/** Whose an input or effect is, and what it says. A component is known by its place. */
function addressed(value) {
  const [[kind, inner]] = Object.entries(value);
  return kind === "Component"
    ? { machine: `component-${inner[0]}`, what: words(inner[1]) }
    : { machine: kind.toLowerCase(), what: words(inner) };
}

function isFailure(step) {
  const exit = /^Exited\((?!Code\(0\)\))/.test(step.event) && !ENDING.includes(step.from);
  const late = step.event === "TimedOut" && !PAUSING.includes(step.from);
  const given = ["Failed", "Backoff"].includes(step.to);
  const failed = /Failed/.test(step.event) && step.taken !== "Ignored";
  return failed || (step.taken === "Transition" && (exit || late || given));
}

export class Journal {
  /** From the first line of a journal. */
  constructor(header) {
    const { system, operation, process, components } = header.supervisor;
    this.states = new Map([
      ["system", system.state],
      ["operation", operation.state],
      ["process", process.state],
      ...components.map((it, place) => [`component-${place}`, it.state]),
    ]);
    /** What the machines were before the first step that is kept. */
    this.before = new Map(this.states);
    this.steps = [];
    this.last = header.after;
    this.time = null;
    this.kept = KEPT;
  }

  static parse(text, kept = KEPT) {
    const [first, ...lines] = text.split("\n").filter((line) => line !== "");
    const header = JSON.parse(first ?? "null");
    if (!header?.supervisor) throw new Error("its first line is not that of a journal");
    if (header.format !== 1) throw new Error(`it has format ${header.format}; this page reads 1`);
    const journal = new Journal(header);
    journal.kept = kept;
    lines.forEach((line, index) => {
      let parsed;
      try {
        parsed = JSON.parse(line);
      } catch (error) {
        // A crash cuts off the last line.
        if (index === lines.length - 1) return;
        throw new Error(`line ${index + 2}: ${error.message}`);
      }
      journal.add(parsed);
    });
    return journal;
  }

  /** Takes in a line; false if it is not the one after the last. */
  add(line) {
    if (line.seq !== this.last + 1) return false;
    this.last = line.seq;
    const time = Date.parse(line.time);
    line.steps.forEach((raw, index) => {
      const { machine, what: event } = addressed(raw.input);
      const effects = raw.effects.map((effect) => {
        const { machine: of, what } = addressed(effect);
        return of === machine ? what : `${of}: ${what}`;
      });
      const step = {
        line, seq: line.seq, index, time, machine, event,
        // All steps of a line are one reaction.
        after: this.time === null || index > 0 ? null : time - this.time,
        from: raw.from, to: raw.to, taken: raw.taken, handler: raw.handler, effects,
        held: raw.guards,
        guards: raw.guards.map(({ name, held }) => (held ? name : `not ${name}`)),
      };
      step.failed = isFailure(step);
      this.steps.push(step);
      this.states.set(machine, raw.to);
    });
    if (line.steps.length > 0) this.time = time;
    for (const old of this.steps.splice(0, Math.max(0, this.steps.length - this.kept))) {
      this.before.set(old.machine, old.to);
    }
    return true;
  }

  /** The same step as one of another journal of this daemon's. */
  same({ seq, index }) {
    return this.steps.find((it) => it.seq === seq && it.index === index) ?? null;
  }

  /** The states after `step`. */
  at(step) {
    const states = new Map(this.before);
    for (const earlier of this.steps) {
      states.set(earlier.machine, earlier.to);
      if (earlier === step) break;
    }
    return states;
  }

  /** The last transition of a machine, up to and with `step` (of all if that is none). */
  lastOf(machine, step) {
    const end = step ? this.steps.indexOf(step) + 1 : this.steps.length;
    const taken = (it) => it.machine === machine && it.taken === "Transition";
    return this.steps.slice(0, end).findLast(taken);
  }
}
