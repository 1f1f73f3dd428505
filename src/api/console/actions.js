// What an operator can do now, and doing it.

import { call, lines, make } from "./api.js";

const byId = (id) => document.getElementById(id);

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

/** Does something, and tells what came of it. */
async function act(what, path, body) {
  const outcome = byId("outcome");
  outcome.classList.remove("failed");
  outcome.textContent = `${what}…`;
  try {
    const headers = { "content-type": "application/json" };
    const answer = await call(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) });
    if (answer.headers.get("content-type")?.includes("ndjson")) {
      for await (const line of lines(answer)) {
        const { type, data, error } = JSON.parse(line);
        if (type === "error") throw new Error(error ?? data);
        outcome.textContent = data ?? outcome.textContent;
      }
    } else {
      await answer.text();
      outcome.textContent = `${what}: done`;
    }
  } catch (error) {
    outcome.classList.add("failed");
    outcome.textContent = `${what}: ${error.message}`;
  }
}

/** A button, which says why it cannot be used if it cannot. */
function button(label, request, status, act) {
  const possible = status.accepted.includes(request);
  const title = possible ? "" : `not possible while the system is ${status.state}`;
  const made = make("button", { type: "button", disabled: !possible, title }, label);
  made.addEventListener("click", act);
  return made;
}

/** The buttons of the main process or of a component. */
export function controls(kind, path, name, status) {
  return ["start", "stop", "restart"].map((verb) => {
    const label = verb[0].toUpperCase() + verb.slice(1);
    return button(label, `${verb} ${kind}`, status, () => act(`${label} ${name}`, `${path}/${verb}`));
  });
}

export class Actions {
  constructor() {
    this.comment = make("input", { placeholder: "comment", maxLength: 200 });
    this.comment.setAttribute("aria-label", "The checkpoint's comment");
    byId("checkpoints").addEventListener("toggle", () => this.list());
  }

  /** Shows the buttons; `requests` says in words what the system can be asked for. */
  show(status, requests) {
    this.status = status;
    const taking = status.checkpoint_driver !== undefined;
    const checkpoint = button("Take a checkpoint", "checkpoint", status, async () => {
      await act("Checkpoint", "checkpoint", { comment: this.comment.value });
      this.comment.value = "";
      this.list();
    });
    const written = document.activeElement === this.comment;
    byId("actions").replaceChildren(
      ...(taking ? [this.comment, checkpoint] : ["Checkpoints are off: there is no storage. "]),
      ...controls("process", "process", "the main process", status),
    );
    if (written) this.comment.focus();
    byId("checkpoints").hidden = !taking;
    const spaced = (request) => request.replace(/(?!^)[A-Z]/g, " $&").toLowerCase();
    const possible = requests.filter(([request]) => status.accepted.includes(spaced(request)));
    byId("actions").title = possible.map(([, meaning]) => meaning.replaceAll("`", "")).join("\n");
    for (const restore of byId("checkpoints").querySelectorAll("button")) {
      restore.disabled = !status.accepted.includes("restore");
    }
  }

  /** Lists the checkpoints, if they are looked at. */
  async list() {
    const details = byId("checkpoints");
    if (!details.open || details.hidden) return;
    const place = details.querySelector("div");
    try {
      const found = await (await call("checkpoints?includeAuto=true")).json();
      const rows = found.map((one) => this.row(one));
      const table = make("table", {}, make("tbody", {}, ...rows));
      place.replaceChildren(found.length > 0 ? table : "There is none yet.");
    } catch (error) {
      place.replaceChildren(error.message);
    }
  }

  row({ id, create_time: time, comment, durability }) {
    const restore = button(`Restore ${id}`, "restore", this.status, async () => {
      const question =
        `Restore ${id}? The main process and the components are stopped, the environment's ` +
        `directory becomes what it was, and all is started again. What is there now is kept as ` +
        `an automatic checkpoint.`;
      if (await sure(question)) {
        await act(`Restore ${id}`, `checkpoints/${encodeURIComponent(id)}/restore`);
        this.list();
      }
    });
    const when = new Date(time).toLocaleString();
    const cells = [id, when, comment ?? "", durability ?? "", restore];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  }
}
