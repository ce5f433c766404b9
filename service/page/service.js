// The service's routes. Their addresses are relative: the service may stand behind a path's prefix.

const UNREACHED = "No answer came: the service cannot be reached.";
const BROKEN_OFF = "The answer broke off before its end.";
const ENDINGS = /\.(png|jpe?g|tiff?|dcm|dicom)$/i;

/** The route's answer. Throws an Error with the server's own message, or with what else went wrong. */
export async function ask(route, options = {}) {
  const answer = await fetch(route, options).catch((fault) => {
    throw options.signal?.aborted ? fault : new Error(UNREACHED);
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null); // what stands between may answer in a shape of its own
  throw new Error(told?.error?.message ?? `The service answered ${answer.status} ${answer.statusText}.`);
}

function upload(route, file, signal) {
  const body = new FormData();
  body.append("frame", file);
  return ask(route, { method: "POST", body, signal });
}

/** What /segment says of each frame of the file, as soon as it says it. */
export async function* outcomes(file, signal) {
  const answer = await upload("segment?picture=frame", file, signal);
  if (answer.headers.get("content-type").startsWith("application/jsonl")) yield* lines(answer.body);
  else yield answer.json();
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(BROKEN_OFF);
    });
    if (done) break;
    const parts = (begun + value).split("\n");
    begun = parts.pop();
    for (const line of parts) yield JSON.parse(line);
  }
  if (begun) throw new Error(BROKEN_OFF);
}

/** The frame's JPEG, taken out of the outcome; null for a frame that cannot be read. */
export function pictureOf(outcome) {
  if (!outcome.picture) return null;
  const bytes = Uint8Array.from(atob(outcome.picture.split(",")[1]), (letter) => letter.charCodeAt(0));
  delete outcome.picture; // of a long cine, text would fill the memory
  return new Blob([bytes], { type: "image/jpeg" });
}

/** Whether the file is one of DICOM's (PS3.10 7.1). Throws an Error where it cannot be read. */
export async function isDicom(file) {
  const prefix = await file.slice(128, 132).text().catch(() => {
    throw new Error(`${file.name} cannot be read. If it is a folder: drop a file out of it.`);
  });
  return prefix === "DICM";
}

/** Saves what the route makes of the file, under the file's name with another ending. */
export async function download(file, route, ending) {
  const answer = await upload(route, file);
  const made = await answer.blob().catch(() => {
    throw new Error(BROKEN_OFF);
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(made);
  link.download = file.name.replace(ENDINGS, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may first ask where to
}
