// A machine's chart: the picture that was laid out when the program was made, with the state that
// the machine is in and the arrow that it took last marked in it.

const pictures = new Map();

/** The picture of a machine, as an element of its own whose ids begin with `prefix`. */
async function picture(machine, prefix) {
  if (!pictures.has(machine)) {
    pictures.set(machine, fetch(`console/${machine}.svg`).then((answer) => answer.text()));
  }
  const text = await pictures.get(machine);
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
    this.svg = await picture(this.diagram.name, this.name);
    this.svg.setAttribute("role", "img");
    place.append(this.svg);
    for (const arrow of this.svg.querySelectorAll(`g[id^="${this.name}-edge-"]`)) {
      const [, from, to] = arrow.id.slice(this.name.length).match(/^-edge-(\w+)-(\w+)$/) ?? [];
      if (!from) continue;
      arrow.addEventListener("click", () => this.chosen({ machine: this.name, from, to }));
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
    if (step?.to === state) {
      // An arrow of a superstate stands for all states in it.
      const from = this.path(step.from).reverse();
      const arrow = from.map((name) => part(`edge-${name}-${step.to}`)).find(Boolean);
      arrow?.classList.add("taken");
    }
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
    const name = (event) => event.replace(/\(.*/, "");
    const some = this.diagram.edges.filter((edge) => path.has(edge.from));
    const names = new Set(some.map((edge) => name(edge.event)));
    return this.diagram.events.filter(([event]) => names.has(event));
  }

  /** Whether `step` is one of an arrow's. */
  isOf(step, { machine, from, to }) {
    const leads = step.machine === machine && step.to === to && step.taken === "Transition";
    return leads && this.path(step.from).includes(from);
  }
}
