// The model's card: for people first, as JSON below.

import { ask } from "./service.js";

const element = (id) => document.getElementById(id);
const plain = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

function made(tag, text, attributes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...attributes });
}

/** What a figure of the pipeline is called; the others are called as they are. */
const NAMES = {
  dice: "Dice, mean",
  dice_median: "Dice, median",
  dice_lost: "Share of frames with a Dice below 0.2",
  dice_with_nerve: "Dice of frames with a nerve",
  iou: "Intersection over union",
  hausdorff95_px: "Hausdorff distance, 95 %, in pixels",
  presence_auc: "Presence: area under the ROC curve",
  presence_calibration_error: "Presence: expected calibration error",
  confidence_correlation: "Confidence: correlation with the Dice",
  confidence_error: "Confidence: mean distance from the Dice",
  empty: "Dice of empty masks",
  mean_mask: "Dice of the training frames' mean mask",
  parity: "What is served, against what was trained",
  float32_largest_difference: "Largest difference of a probability, in float32",
  float32_changed_pixels: "Share of pixels that changed, in float32",
  test_dice_change: "Judged net: change of its Dice on test in the served precision",
};
const called = (name) => NAMES[name] ?? plain(name);

const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const isTable = (value) => typeof value === "object" && value !== null;

function figure(value) {
  if (typeof value === "number") return new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(value);
  return value === null ? "cannot be told by these frames" : String(value);
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
    "Trained on": `${source}: ${many(frames, "frame")} of ${of}; ${licence}${card.refit ? REFIT : ""}`,
    Method: method(card.method),
    "Looks at": `${width} × ${height} pixels, to which a frame is scaled`,
    "MLflow run": card.run_id,
    Commit: card.dirty ? `${card.commit}, with changes that were not committed` : card.commit,
    Data: card.data,
    "Runs on": card.device,
  };
}

/** The figures of one split, each with its interval where it has one, and those of the baselines that it has to beat. */
function figures(split, measured, baselines = {}) {
  const body = made("tbody", "");
  body.insertRow().append(made("th", called(split), { colSpan: 2, scope: "rowgroup" }));
  for (const [name, value] of Object.entries({ ...measured, ...baselines })) {
    if (isTable(value) || /_(low|high)$/.test(name)) continue;
    const [low, high] = [measured[`${name}_low`], measured[`${name}_high`]];
    const told = low === undefined ? figure(value) : `${figure(value)} (${figure(low)} to ${figure(high)})`;
    body.insertRow().append(made("th", called(name), { scope: "row" }), made("td", told));
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
