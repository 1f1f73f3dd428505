// The list of steps, newest first.

import { byId, make } from "./elements.js";

/** So many are listed, and so many more each time that older ones are asked for. */
const LISTED = 300;

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false,
});

export class Steps {
  /** `chosen` is told of the step that was chosen, none = now; `nameOf` names a machine. */
  constructor({ chosen, nameOf, isOf }) {
    Object.assign(this, { chosen, nameOf, isOf });
    this.body = document.querySelector("#steps tbody");
    this.listed = [];
    this.arrow = null;
    this.limit = LISTED;
    for (const id of ["machine", "failures", "ignored"]) {
      byId(id).addEventListener("change", () => this.show(this.journal, this.selected));
    }
    byId("arrow").addEventListener("click", () => this.only(null));
    byId("copy").addEventListener("click", () => {
      navigator.clipboard.writeText(JSON.stringify(this.selected.line, null, 2));
    });
    // Browsers have none where the connection is not secure.
    byId("copy").hidden = !navigator.clipboard;
    byId("older").addEventListener("click", () => {
      this.limit += LISTED;
      this.show(this.journal, this.selected);
    });
    this.body.addEventListener("keydown", (event) => this.key(event));
  }

  /** Lists only the steps of an arrow; all again without one. */
  only(arrow) {
    this.arrow = arrow;
    const button = byId("arrow");
    button.hidden = !arrow;
    if (arrow) {
      button.textContent = `only ${this.nameOf(arrow.machine)}: ${arrow.from} → ${arrow.to} ✕`;
    }
    this.show(this.journal, this.selected);
  }

  show(journal, selected) {
    this.journal = journal;
    this.selected = selected;
    this.choices(journal);
    const machine = byId("machine").value;
    const isWanted = (step) =>
      (machine === "" || step.machine === machine) &&
      (!byId("failures").checked || step.failed) &&
      (byId("ignored").checked || step.taken !== "Ignored" || step === selected) &&
      (!this.arrow || this.isOf(step, this.arrow));
    const wanted = journal.steps.filter(isWanted).reverse();
    this.listed = wanted.slice(0, this.limit);
    byId("older").hidden = wanted.length <= this.limit;
    this.body.replaceChildren(...this.listed.map((step) => this.row(step)));
    if (this.follows) {
      this.follows = false;
      this.body.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    }
    byId("copy").disabled = !selected;
  }

  choices(journal) {
    const select = byId("machine");
    const names = [...journal.states.keys()].map((machine) => [machine, this.nameOf(machine)]);
    const now = names.map(([machine, name]) => machine + name).join();
    if (now === this.offered) return;
    this.offered = now;
    const value = select.value;
    const options = names.map(([machine, name]) => make("option", { value: machine }, name));
    select.replaceChildren(make("option", { value: "" }, "all"), ...options);
    select.value = journal.states.has(value) ? value : "";
  }

  row(step) {
    const moved = step.taken === "Transition" ? `${step.from} → ${step.to}` : `in ${step.to}`;
    const cells = [
      Number.isNaN(step.time) ? "" : clock.format(step.time),
      step.after === null || Number.isNaN(step.after) ? "" : `+${step.after} ms`,
      this.nameOf(step.machine),
      (step.failed ? "⚠ " : "") + step.event,
      step.taken === "Ignored" ? `ignored ${moved}` : moved,
      step.guards.join(", "),
      step.effects.join(", "),
    ];
    const row = make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
    row.classList.toggle("ignored", step.taken === "Ignored");
    row.classList.toggle("failed", step.failed);
    row.setAttribute("aria-selected", String(step === this.selected));
    row.addEventListener("click", () => this.chosen(step === this.selected ? null : step));
    return row;
  }

  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || this.listed.length === 0) return;
    event.preventDefault();
    const at = this.listed.indexOf(this.selected);
    const next = at < 0 ? 0 : Math.min(Math.max(at + by, 0), this.listed.length - 1);
    if (next === at) return;
    this.selected = this.listed[next];
    this.follows = true;
    this.chosen(this.selected);
  }
}
