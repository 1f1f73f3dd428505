// A machine's chart: the picture that was laid out when the program was made, with the state that
// the machine is in and the arrow that it took last marked in it.

import { call } from "./api.js";

const pictures = new Map();
/** The kind of an event, without what comes with it. */
const kind = (event) => event.replace(/\(.*/, "");

/** The picture of a machine, as an element of its own whose ids begin with `prefix`. */
async function picture(machine, prefix) {
  if (!pictures.has(machine)) {
    pictures.set(machine, call(`console/${machine}.svg`).then((answer) => answer.text()));
  }
  const text = await pictures.get(machine).catch((error) => {
    pictures.delete(machine);
    throw error;
  });
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const svg = document.importNode(parsed, true);
  svg.style.setProperty("--width", svg.viewBox.baseVal.width);
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  for (const title of svg.querySelectorAll("title")) title.remove();
  for (const element of svg.querySelectorAll("[id]")) element.id = `${prefix}-${element.id}`;
  return svg;
}

export class Chart {
  /** `diagram` is what the daemon says of the kind of machine; `chosen` is told which arrow was. */
  constructor(name, diagram, chosen) {
    this.name = name;
    this.diagram = diagram;
    this.chosen = chosen;
    this.isDrawn = false;
    this.svg = null;
    this.shown = null;
  }

  /** Draws it in `place`, once. */
  async draw(place) {
    if (this.isDrawn) return;
    this.isDrawn = true;
    try {
      this.svg = await picture(this.diagram.name, this.name);
    } catch {
      // It is tried again with the next step.
      this.isDrawn = false;
      return;
    }
    this.svg.setAttribute("role", "group");
    place.append(this.svg);
    for (const arrow of this.svg.querySelectorAll(`g[id^="${this.name}-edge-"]`)) {
      const [, from, to] = arrow.id.slice(this.name.length).match(/^-edge-(\w+)-(\w+)$/) ?? [];
      if (!from) continue;
      const choose = () => this.chosen({ machine: this.name, from, to });
      arrow.addEventListener("click", choose);
      arrow.addEventListener("keydown", ({ key }) => key === "Enter" && choose());
      arrow.setAttribute("tabindex", "0");
      arrow.setAttribute("aria-label", `steps from ${from} to ${to}`);
    }
    if (this.shown) this.show(...this.shown);
  }

  /** The superstates around a state, outermost first, and the state itself. */
  path(state) {
    const path = [];
    for (let at = state; at; at = this.diagram.states[at]?.parent) path.unshift(at);
    return path;
  }

  /** Marks the state that it is in, and the arrow of its last step. */
  show(state, step) {
    this.shown = [state, step];
    if (!this.svg) return;
    const path = this.path(state);
    const said = `${this.name}: ${path.join(" › ")}`;
    this.svg.setAttribute("aria-label", said);
    for (const marked of this.svg.querySelectorAll(".now, .around, .taken")) {
      marked.classList.remove("now", "around", "taken");
    }
    const part = (id) => this.svg.querySelector(`[id="${this.name}-${id}"]`);
    path.forEach((name) => part(`state-${name}`)?.classList.add(name === state ? "now" : "around"));
    if (state !== this.centred) {
      this.centred = state;
      this.centre();
    }
    if (step?.to === state) part(`edge-${this.start(step)}-${state}`)?.classList.add("taken");
  }

  /** Where the arrow of a step starts: one of a superstate stands for all states in it. */
  start(step) {
    const path = this.path(step.from);
    const held = ({ name, held }) => step.held.some((it) => it.name === name && it.held === held);
    const arrows = this.diagram.edges.filter(
      (edge) => edge.to === step.to && path.includes(edge.from) && kind(edge.event) === kind(step.event),
    );
    const exact = arrows.filter((edge) => edge.guards.every(held));
    const depth = (edge) => path.indexOf(edge.from);
    const inner = (exact.length > 0 ? exact : arrows).sort((a, b) => depth(b) - depth(a));
    return inner[0]?.from ?? step.from;
  }

  /** Scrolls to the state that it is in, and nothing but the picture. */
  centre() {
    const [state, place] = [this.svg.querySelector(".now"), this.svg.parentElement];
    if (!state || !place) return;
    const [of, within] = [state.getBoundingClientRect(), place.getBoundingClientRect()];
    place.scrollLeft += of.x + of.width / 2 - within.x - within.width / 2;
    place.scrollTop += of.y + of.height / 2 - within.y - within.height / 2;
  }

  /** The events that have an effect in `state`: name and meaning. */
  awaited(state) {
    const path = new Set(this.path(state));
    const refused = (edge) => edge.effects.includes("Refuse");
    const some = this.diagram.edges.filter((edge) => path.has(edge.from) && !refused(edge));
    const names = new Set(some.map((edge) => kind(edge.event)));
    return this.diagram.events.filter(([event]) => names.has(event));
  }

  /** Whether `step` is one of an arrow's. */
  isOf(step, { machine, from, to }) {
    const leads = step.machine === machine && step.to === to && step.taken === "Transition";
    return leads && this.start(step) === from;
  }
}
