// The page: a file, a camera or a screen goes in; frames with their masks and findings come out.

import { openCard } from "./card.js";
import { Cine } from "./cine.js";
import { Findings, words } from "./findings.js";
import { camera, live, screen } from "./live.js";
import { ask, download, isDicom, outcomes, pictureOf } from "./service.js";
import { Viewer } from "./viewer.js";

const element = (id) => document.getElementById(id);
const viewer = new Viewer(element("canvas"), element("masked"));
const findings = new Findings();
const cine = new Cine(showFrame);

let file = null; // what the downloads are made of
let turn = new AbortController(); // the file or the live source that has the page; the next one ends it

/** The page for another file or source: the one before it is ended, and what it said is taken away. */
function begin() {
  turn.abort();
  turn = new AbortController();
  file = null;
  complain(null);
  cine.clear();
  viewer.clear();
  findings.clear();
  for (const id of ["downloads", "segmentation", "pace", "stop"]) element(id).hidden = true;
  element("invitation").hidden = false;
  return turn.signal;
}

function complain(fault) {
  element("fault").hidden = !fault;
  element("fault").textContent = fault ? fault.message : "";
}

function busy(waiting) {
  element("stage").ariaBusy = String(waiting);
}

function show(picture, outcome, name) {
  element("invitation").hidden = true;
  viewer.show(picture, outcome, name);
}

async function openFile(chosen) {
  const signal = begin();
  const start = performance.now();
  busy(true);
  findings.wait(`Looking at ${chosen.name} …`);
  try {
    const dicom = await isDicom(chosen);
    for await (const outcome of outcomes(chosen, signal)) {
      signal.throwIfAborted();
      file = chosen;
      element("segmentation").hidden = !dicom;
      await cine.add(outcome, pictureOf(outcome), performance.now() - start);
    }
  } catch (fault) {
    if (signal.aborted) return;
    complain(fault);
    if (!cine.count) findings.wait(`${chosen.name} was not segmented`);
  }
  if (signal.aborted) return;
  busy(false);
  cine.complete();
}

/** One frame of what was uploaded. aloud: whether a screen reader tells the finding of its own accord. */
async function showFrame({ outcome, picture, after }, name, aloud) {
  const { signal } = turn;
  const bitmap = picture && (await createImageBitmap(picture));
  if (signal.aborted || !cine.isShown(outcome)) return bitmap?.close();
  show(bitmap, outcome, name);
  findings.tell(outcome, file.name, `${words.duration(after)} from upload to answer`, aloud);
  element("downloads").hidden = false;
  element("mask").hidden = Boolean(outcome.error);
}

async function openLive(source, button) {
  const signal = begin();
  element("stop").hidden = false;
  element("stop").focus();
  element("stop").onclick = () => {
    turn.abort();
    endLive();
    button.focus();
  };
  findings.wait(`Waiting for the ${source.name} …`);
  busy(true);
  try {
    await live(source, signal, (picture, outcome, { rate, delay }) => {
      busy(false);
      show(picture, outcome, "Live frame");
      findings.tell(outcome, `${source.name}, live`, `${words.duration(delay)} from frame to mask`, false);
      element("pace").hidden = false;
      element("pace").textContent = `${rate} frames a second, ${words.duration(delay)} behind`;
    });
  } catch (fault) {
    if (!signal.aborted) complain(fault);
  }
  if (!signal.aborted) endLive();
}

/** The last frame stays, with what was found on it. */
function endLive() {
  busy(false);
  element("stop").hidden = true;
  element("pace").hidden = true;
  if (viewer.empty) findings.clear();
}

async function save(button, route, ending) {
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  complain(null);
  try {
    await download(file, route, ending);
  } catch (fault) {
    complain(fault);
  }
  button.ariaBusy = "false";
}

element("file").addEventListener("change", ({ target }) => {
  if (target.files.length) openFile(target.files[0]);
  target.value = ""; // so that the same file may be chosen again
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const { files } = event.dataTransfer;
  if (files.length) openFile(files[0]);
  if (files.length > 1) complain(new Error(`One file at a time: only ${files[0].name} was taken.`));
});

addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const taken = event.target.matches("input[type=range], pre, code, dialog *") || event.altKey || event.metaKey;
  if (step && !taken) cine.step(step);
});

for (const source of [camera, screen]) {
  const button = element(source.name);
  button.addEventListener("click", () => openLive(source, button));
}

element("masked").addEventListener("change", () => viewer.paint());
element("mask").addEventListener("click", ({ target }) => {
  const number = cine.count > 1 ? `_${String(cine.index).padStart(4, "0")}` : "";
  save(target, `mask?index=${cine.index}`, `${number}_mask.png`);
});
element("segmentation").addEventListener("click", ({ target }) => save(target, "dicom", "_segmentation.dcm"));
element("about").addEventListener("click", () => {
  complain(null);
  openCard().catch(complain);
});
ask("model")
  .then((answer) => answer.json())
  .then(({ metrics }) => {
    findings.calibrated = metrics.validation?.presence_auc !== null;
  })
  .catch(complain);
element("example").textContent = `curl -F frame=@frame.png ${new URL("mask", location.href)} -o mask.png`;
