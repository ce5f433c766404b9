// The model's card: for people first, as JSON below.

import { ask } from "./service.js";

const element = (id) => document.getElementById(id);
const plain = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

function made(tag, text, attributes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...attributes });
}

const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const isTable = (value) => typeof value === "object" && value !== null;

function figure(value) {
  if (typeof value === "number") return new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(value);
  return value === null ? "none" : String(value);
}

const REFIT = "; held-out frames among them: the figures are those of the same training without them";

function method({ net, recipe }) {
  if (!net) return "not told";
  const way = net.encoder ? `${net.encoder} (start: ${net.start})` : "own encoder";
  const epochs = recipe.phases.reduce((sum, phase) => sum + phase.epochs, 0);
  return `U-net, ${way}; loss ${plain(recipe.loss)}, up to ${epochs} epochs`;
}

function facts(card) {
  const { source, licence, frames, subjects } = card.trained_on;
  const of = subjects ? many(subjects, "subject") : "unrecorded subjects";
  const { height, width } = card.input;
  return {
    "Intended use": card.intended_use || "not told",
    Name: card.name,
    Version: card.version,
    Candidate: card.candidate,
    "Trained on": `${source}: ${many(frames, "frame")} of ${of} (${licence})${card.refit ? REFIT : ""}`,
    Method: method(card.method),
    "Looks at": `${width} × ${height} pixels, to which a frame is scaled`,
    "MLflow run": card.run_id,
    Commit: card.dirty ? `${card.commit}, with changes that were not committed` : card.commit,
    Data: card.data,
    "Runs on": card.device,
  };
}

/** The figures of one split, and those of the baselines that it has to beat. */
function figures(split, measured, baselines = {}) {
  const rows = [
    ...Object.entries(measured).map(([name, value]) => [plain(name), value]).filter(([, value]) => !isTable(value)),
    ...Object.entries(baselines).map(([name, value]) => [`Dice of the baseline: ${plain(name)}`, value]),
  ];
  const body = made("tbody", "");
  body.insertRow().append(made("th", plain(split), { colSpan: 2, scope: "rowgroup" }));
  for (const [name, value] of rows) {
    body.insertRow().append(made("th", name, { scope: "row" }), made("td", figure(value)));
  }
  return body;
}

/** Dice on test frames of each kind, with its interval of 95 %. */
function byKind(groups) {
  const body = made("tbody", "");
  for (const [kind, { frames, dice, dice_low, dice_high }] of Object.entries(groups)) {
    const [mean, low, high] = [dice, dice_low, dice_high].map((value) => value.toFixed(3));
    const name = `${plain(kind)}, ${many(frames, "frame")}`;
    body.insertRow().append(made("th", name, { scope: "row" }), made("td", `${mean} (${low} to ${high})`));
  }
  return body;
}

function showFailures({ failures, files }) {
  element("card-failures").replaceChildren(
    ...failures.map(({ kind, frames, meaning }) => made("li", `${plain(kind)}, ${many(frames, "test frame")}: ${meaning}`)),
  );
  const shown = "worst.png" in files;
  element("card-larger").hidden = !shown;
  if (shown) element("card-worst").src = "model/worst.png";
  element("fails").hidden = !failures.length && !shown;
}

/** Asks for the card and shows it. Throws an Error that says why there is none. */
export async function openCard() {
  const card = await (await ask("model")).json();
  element("card-facts").replaceChildren(
    ...Object.entries(facts(card)).map(([name, value]) => {
      const row = made("div", "");
      row.append(made("dt", name), made("dd", value));
      return row;
    }),
  );
  for (const body of [...element("card-metrics").tBodies, ...element("card-groups").tBodies]) body.remove();
  element("card-groups").append(byKind(card.groups));
  element("card-groups").hidden = !Object.keys(card.groups).length;
  showFailures(card);
  element("card-metrics").append(
    ...Object.entries(card.metrics).map(([split, measured]) => figures(split, measured, card.baselines[split])),
  );
  element("card-json").textContent = JSON.stringify(card, null, 2);
  element("card").showModal();
}

element("close").addEventListener("click", () => element("card").close());
element("card").addEventListener("click", ({ target }) => {
  if (target === element("card")) target.close(); // a click beside it
});
