// What an operator can do now, and doing it.

import { call, lines } from "./api.js";
import { byId, make, tell } from "./elements.js";

/** Asks before something that is not undone by itself. */
function sure(question) {
  const dialog = byId("sure");
  dialog.querySelector("p").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

let isActing = false;
let changed = () => {};

/** Does something, and tells what came of it. One thing at a time. */
async function act(what, path, body) {
  tell(`${what}…`);
  isActing = true;
  changed();
  try {
    const headers = { "content-type": "application/json", accept: "application/x-ndjson, */*" };
    const answer = await call(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) });
    if (answer.headers.get("content-type")?.includes("ndjson")) {
      for await (const line of lines(answer)) {
        const { type, data, error } = JSON.parse(line);
        if (type === "error") throw new Error(error ?? data);
        if (data !== undefined) tell(data);
      }
    } else {
      await answer.text();
      tell(`${what}: done`);
    }
  } catch (error) {
    tell(`${what}: ${error.message}`, true);
  }
  isActing = false;
  changed();
}

function button(label, act) {
  const made = make("button", { type: "button" }, label);
  made.addEventListener("click", act);
  return made;
}

/** Whether a button can be used; if it cannot, it says why. `status` is none in the past. */
function allow(button, status, request, why = "") {
  const refused = `not possible while the system is ${status?.state}`;
  const possible = status?.accepted.includes(request);
  button.disabled = !possible || why !== "" || isActing;
  button.title = !status ? "not possible in the past" : !possible ? refused : why;
}

/** The buttons of the main process or of a component. */
export class Controls {
  constructor(kind, path, name) {
    this.kind = kind;
    const made = (verb) => {
      const label = verb[0].toUpperCase() + verb.slice(1);
      // The answer comes when it is so.
      const ask = `${path}/${verb}?wait=1m`;
      return [verb, button(label, () => act(`${label} ${name}`, ask))];
    };
    this.made = new Map(["start", "stop", "restart"].map(made));
  }

  get buttons() {
    return [...this.made.values()];
  }

  /** `part` is what the status says of it. */
  show(status, part) {
    const isUp = part?.state.startsWith("Up");
    for (const [verb, button] of this.made) {
      const why = verb === "start" && isUp ? "it runs" : "";
      allow(button, status, `${verb} ${this.kind}`, why);
    }
  }
}

export class Actions {
  /** `redraw` shows the buttons again. */
  constructor(redraw) {
    changed = redraw;
    this.comment = make("input", { placeholder: "comment", maxLength: 200 });
    this.comment.setAttribute("aria-label", "The checkpoint's comment");
    this.take = button("Take a checkpoint", async () => {
      await act("Checkpoint", "checkpoint", { comment: this.comment.value });
      this.comment.value = "";
      this.list();
    });
    this.off = make("p", {}, "Checkpoints are off: there is no storage.");
    byId("actions").replaceChildren(this.comment, this.take, this.off);
    byId("checkpoints").addEventListener("toggle", () => this.list());
    this.restores = [];
  }

  /** Shows what can be used now; nothing can without a status. */
  show(status, driver, operation) {
    const taking = driver !== undefined;
    for (const element of [this.comment, this.take, byId("checkpoints")]) element.hidden = !taking;
    this.off.hidden = taking;
    allow(this.take, status, "checkpoint");
    this.status = status;
    for (const restore of this.restores) allow(restore, status, "restore");
    // Whoever has made one.
    if (operation === "Idle" && this.operation !== operation) this.list();
    this.operation = operation;
  }

  /** Lists the checkpoints, if they are looked at. */
  async list() {
    const details = byId("checkpoints");
    if (!details.open || details.hidden) return;
    const place = details.querySelector("div");
    try {
      const found = await (await call("checkpoints?includeAuto=true")).json();
      this.restores = [];
      const rows = found.map((one) => this.row(one));
      const table = make("table", {}, make("tbody", {}, ...rows));
      place.replaceChildren(found.length > 0 ? table : "There is none yet.");
    } catch (error) {
      place.replaceChildren(error.message);
    }
  }

  row({ id, create_time: time, comment, durability }) {
    const restore = button(`Restore ${id}`, async () => {
      const question =
        `Restore ${id}? The main process and the components are stopped, the environment's ` +
        `directory becomes what it was, and all is started again. What is there now is kept as ` +
        `an automatic checkpoint.`;
      if (await sure(question)) {
        await act(`Restore ${id}`, `checkpoints/${encodeURIComponent(id)}/restore`);
        this.list();
      }
    });
    this.restores.push(restore);
    allow(restore, this.status, "restore");
    const when = new Date(time).toLocaleString();
    const cells = [id, when, comment ?? "", durability ?? "", restore];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  }
}
