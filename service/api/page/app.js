// The page: opens a file, a camera or a screen, and shows its frames with their masks and results.

import { openCard } from "./model_card.js";
import { Cine } from "./cine.js";
import { camera, screen, streamFrames } from "./live.js";
import { ResultPanel, describe } from "./result.js";
import { download, frameResults, isDicom, request, takePicture } from "./service.js";
import { Viewer } from "./viewer.js";

const element = (id) => document.getElementById(id);
const viewer = new Viewer(element("frame-canvas"), element("show-mask"), element("show-outlines"));
const resultPanel = new ResultPanel();
const cine = new Cine(showFrame);

let answerParameters = {}; // query parameters of /segment, /stream and /dicom; the model's card decides
let file = null; // the file that the downloads are made from
let session = new AbortController(); // of the file or live source on the page; the next one aborts it

/** Ends the current file or live source, clears the page, and returns the signal of the next one. */
function startSession() {
  session.abort();
  session = new AbortController();
  file = null;
  showError(null);
  cine.clear();
  viewer.clear();
  resultPanel.clear();
  for (const id of ["downloads", "download-dicom", "live-rate", "stop-live"]) element(id).hidden = true;
  element("drop-zone").hidden = false;
  return session.signal;
}

function showError(error) {
  element("error").hidden = !error;
  element("error").textContent = error ? error.message : "";
}

function setBusy(busy) {
  element("stage").ariaBusy = String(busy);
}

function draw(picture, result, name) {
  element("drop-zone").hidden = true;
  viewer.show(picture, result, name);
}

async function openFile(chosenFile) {
  const signal = startSession();
  const start = performance.now();
  setBusy(true);
  resultPanel.showStatus(`Segmenting ${chosenFile.name} …`);
  try {
    await cardIsRead;
    signal.throwIfAborted();
    const dicom = await isDicom(chosenFile);
    for await (const result of frameResults(chosenFile, answerParameters, signal)) {
      signal.throwIfAborted();
      file = chosenFile;
      element("download-dicom").hidden = !dicom;
      await cine.add(result, takePicture(result), performance.now() - start);
    }
  } catch (error) {
    if (signal.aborted) return;
    showError(error);
    if (!cine.count) resultPanel.showStatus(`${chosenFile.name} was not segmented`);
  }
  if (signal.aborted) return;
  setBusy(false);
  cine.complete();
}

/** Shows one frame of the uploaded file. announce: whether a screen reader reads its result aloud. */
async function showFrame({ result, picture, milliseconds }, name, announce) {
  const { signal } = session;
  const bitmap = picture && (await createImageBitmap(picture));
  if (signal.aborted || !cine.isShown(result)) return bitmap?.close();
  draw(bitmap, result, name);
  resultPanel.show(result, file.name, `${describe.duration(milliseconds)} from upload to response`, announce);
  element("downloads").hidden = false;
  element("download-mask").hidden = Boolean(result.error);
}

async function openLive(source, button) {
  const signal = startSession();
  element("stop-live").hidden = false;
  element("stop-live").focus();
  element("stop-live").onclick = () => {
    session.abort();
    endLive();
    button.focus();
  };
  resultPanel.showStatus(`Waiting for the ${source.name} …`);
  setBusy(true);
  try {
    await cardIsRead;
    signal.throwIfAborted();
    await streamFrames(source, answerParameters, signal, (picture, result, { rate, delay }) => {
      setBusy(false);
      draw(picture, result, "Live frame");
      resultPanel.show(result, `${source.name}, live`, `${describe.duration(delay)} from frame to mask`, false);
      element("live-rate").hidden = false;
      element("live-rate").textContent = `${rate} frames per second, delay ${describe.duration(delay)}`;
    });
  } catch (error) {
    if (!signal.aborted) showError(error);
  }
  if (!signal.aborted) endLive();
}

/** Ends a live source. Its last frame stays on the page with its result. */
function endLive() {
  setBusy(false);
  element("stop-live").hidden = true;
  element("live-rate").hidden = true;
  if (viewer.empty) resultPanel.clear();
}

async function save(button, route, ending) {
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  showError(null);
  try {
    await download(file, route, ending);
  } catch (error) {
    showError(error);
  }
  button.ariaBusy = "false";
}

element("file-input").addEventListener("change", ({ target }) => {
  if (target.files.length) openFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
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
  if (files.length > 1) showError(new Error(`The page opens one file at a time: it opened ${files[0].name} only.`));
});

addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const hasOwnUse = event.target.matches("input[type=range], pre, code, dialog *") || event.altKey || event.metaKey;
  if (step && !hasOwnUse) cine.step(step);
});

for (const source of [camera, screen]) {
  const button = element(`live-${source.name}`);
  button.addEventListener("click", () => openLive(source, button));
}

for (const id of ["show-mask", "show-outlines"]) element(id).addEventListener("change", () => viewer.draw());
element("download-mask").addEventListener("click", ({ target }) => {
  const number = cine.count > 1 ? `_${String(cine.index).padStart(4, "0")}` : "";
  save(target, `mask?index=${cine.index}`, `${number}_mask.png`);
});
element("download-dicom").addEventListener("click", ({ target }) => {
  save(target, `dicom?${new URLSearchParams(answerParameters)}`, "_segmentation.dcm");
});
element("open-card").addEventListener("click", () => {
  showError(null);
  openCard().catch(showError);
});
const cardIsRead = request("model")
  .then((response) => response.json())
  .then(({ metrics, refit, postprocessing: { outlines } }) => {
    resultPanel.presenceIsCalibrated = metrics.validation?.presence_auc !== null;
    if (!outlines || refit) return; // the outlines of a refit have no guarantee
    answerParameters = { outlines: true };
    element("outlines-toggle").hidden = element("outlines-note").hidden = false;
    element("outlines-note").textContent = describe.guarantee(outlines);
  })
  .catch(showError);
element("example-command").textContent = `curl -F frame=@frame.png ${new URL("mask", location.href)} -o mask.png`;
