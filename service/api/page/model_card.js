// The model card in its dialog: as tables, and below as JSON.

import { request } from "./service.js";

const element = (id) => document.getElementById(id);
const capitalize = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const isObject = (value) => typeof value === "object" && value !== null;

function createElement(tag, text, attributes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...attributes });
}

/** Labels of metrics. A metric without a label here shows its own name. */
const METRIC_LABELS = {
  dice: "Dice, mean",
  dice_median: "Dice, median",
  "dice_below_0.2": "Fraction of frames with a Dice below 0.2",
  dice_with_nerve: "Dice of frames with a nerve",
  iou: "Intersection over union",
  hausdorff95_px: "95 % Hausdorff distance in pixels",
  presence_auc: "Presence: area under the ROC curve",
  presence_calibration_error: "Presence: expected calibration error",
  confidence_correlation: "Confidence: correlation with the Dice",
  confidence_error: "Confidence: mean absolute error of the expected Dice",
  outer_outline_held: "Outer outline: fraction of frames with a guarantee in which it held",
  inner_outline_held: "Inner outline: fraction of frames with a guarantee in which it held",
  outer_outline_area: "Outer outline: median area, as a multiple of the nerve's",
  inner_outline_area: "Inner outline: median area, as a multiple of the nerve's",
  without_outline_guarantee: "Fraction of frames with a nerve whose outlines have no guarantee",
  empty: "Baseline: Dice of empty masks",
  mean_mask: "Baseline: Dice of the training frames' mean mask",
  parity: "Exported network compared with the trained one",
  float32_largest_difference: "Maximum difference of a probability, in float32",
  float32_changed_pixels: "Fraction of mask pixels that differ from the trained network, in float32",
  test_dice_change: "Change of the test Dice in the served precision",
};
const label = (name) => METRIC_LABELS[name] ?? capitalize(name);

function formatValue(value) {
  if (typeof value === "number") return new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(value);
  return value === null ? "not defined for these frames" : String(value);
}

const REFIT_NOTE = "; refit on validation and test frames too. The metrics belong to the evaluated model, before the refit";

function describeMethod({ net, recipe }) {
  if (!net) return "not recorded";
  const encoder = net.encoder ? `encoder ${net.encoder} (initial weights: ${net.encoder_weights})` : "own encoder";
  const epochs = recipe.phases.reduce((sum, phase) => sum + phase.epochs, 0);
  return `U-Net, ${encoder}; loss ${capitalize(recipe.loss)}, up to ${epochs} epochs`;
}

function describeCommit({ commit, commit_error, dirty }) {
  if (!commit) return `not recorded${commit_error && `: ${commit_error}`}`;
  return dirty ? `${commit}, with uncommitted changes` : commit;
}

function describeOutlines({ refit, postprocessing: { outlines: margins } }) {
  if (!margins) return "none";
  if (refit) return "without a guarantee: the model is a refit";
  const subjects = margins.subjects ? plural(margins.subjects, "subject") : "an unrecorded number of subjects";
  return `guarantee from ${plural(margins.frames, "validation frame")} of ${subjects}, for frames like these`;
}

function listFacts(card) {
  const { source, licence, frames, subjects } = card.trained_on;
  const subjectCount = subjects ? plural(subjects, "subject") : "an unrecorded number of subjects";
  const { height, width } = card.input;
  return {
    "Intended use": card.intended_use || "not recorded",
    Name: card.name,
    Version: card.version,
    Candidate: card.candidate,
    "Trained on": `${source}: ${plural(frames, "frame")} of ${subjectCount}; ${licence}${card.refit ? REFIT_NOTE : ""}`,
    Method: describeMethod(card.method),
    Outlines: describeOutlines(card),
    "Input size": `${width} × ${height} pixels; every frame is scaled to it`,
    "MLflow run": card.run_id,
    Commit: describeCommit(card),
    Data: card.data,
    Device: card.device,
  };
}

/** Table rows with the metrics of one split, their intervals, and the baselines to compare them with. */
function createMetricRows(split, metrics, baselines = {}) {
  const body = createElement("tbody", "");
  body.insertRow().append(createElement("th", label(split), { colSpan: 2, scope: "rowgroup" }));
  for (const [name, value] of Object.entries({ ...metrics, ...baselines })) {
    if (isObject(value) || /_(low|high)$/.test(name)) continue;
    const [low, high] = [metrics[`${name}_low`], metrics[`${name}_high`]];
    const interval = low === undefined ? "" : ` (${formatValue(low)} to ${formatValue(high)})`;
    body.insertRow().append(
      createElement("th", label(name), { scope: "row" }),
      createElement("td", formatValue(value) + interval),
    );
  }
  return body;
}

/** Table rows with the Dice of each group of test frames and its 95 % interval. */
function createGroupRows(groups) {
  const body = createElement("tbody", "");
  for (const [group, { frames, dice, dice_low, dice_high }] of Object.entries(groups)) {
    const [mean, low, high] = [dice, dice_low, dice_high].map((value) => value.toFixed(3));
    const name = `${capitalize(group)}, ${plural(frames, "frame")}`;
    body.insertRow().append(
      createElement("th", name, { scope: "row" }),
      createElement("td", `${mean} (${low} to ${high})`),
    );
  }
  return body;
}

function showFailures({ failures, files }) {
  element("failure-list").replaceChildren(
    ...failures.map(({ kind, frames, meaning }) =>
      createElement("li", `${capitalize(kind)}, ${plural(frames, "test frame")}: ${meaning}`),
    ),
  );
  const hasWorstFrames = "worst.png" in files;
  element("worst-link").hidden = !hasWorstFrames;
  if (hasWorstFrames) element("worst-frames").src = "model/worst.png";
  element("card-failures").hidden = !failures.length && !hasWorstFrames;
}

/** Requests the card and opens its dialog. Throws an Error with the reason when there is no card. */
export async function openCard() {
  const card = await (await request("model")).json();
  element("card-facts").replaceChildren(
    ...Object.entries(listFacts(card)).map(([name, value]) => {
      const row = createElement("div", "");
      row.append(createElement("dt", name), createElement("dd", value));
      return row;
    }),
  );
  for (const body of [...element("card-metrics").tBodies, ...element("card-groups").tBodies]) body.remove();
  element("card-groups").append(createGroupRows(card.groups));
  element("card-groups").hidden = !Object.keys(card.groups).length;
  showFailures(card);
  element("card-metrics").append(
    ...Object.entries(card.metrics).map(([split, metrics]) => createMetricRows(split, metrics, card.baselines[split])),
  );
  element("card-json").textContent = JSON.stringify(card, null, 2);
  element("card").showModal();
}

element("close-card").addEventListener("click", () => element("card").close());
element("card").addEventListener("click", ({ target }) => {
  if (target === element("card")) target.close(); // a click outside the dialog
});
