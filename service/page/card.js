// The model's card: for people first, as JSON below.

import { ask } from "./service.js";

const element = (id) => document.getElementById(id);
const plain = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

function made(tag, text, attributes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...attributes });
}

function figure(value) {
  if (typeof value === "number") return new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(value);
  return value === null ? "none" : String(value);
}

function facts(card) {
  const { source, licence, frames, subjects } = card.trained_on;
  const { height, width } = card.input;
  return {
    Name: card.name,
    Version: card.version,
    Candidate: card.candidate,
    "Trained on": `${source}: ${frames} frames of ${subjects} subjects (${licence})`,
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
    ...Object.entries(measured).map(([name, value]) => [plain(name), value]),
    ...Object.entries(baselines).map(([name, value]) => [`Dice of the baseline: ${plain(name)}`, value]),
  ];
  const body = made("tbody", "");
  body.insertRow().append(made("th", plain(split), { colSpan: 2, scope: "rowgroup" }));
  for (const [name, value] of rows) {
    body.insertRow().append(made("th", name, { scope: "row" }), made("td", figure(value)));
  }
  return body;
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
  for (const body of [...element("card-metrics").tBodies]) body.remove();
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
