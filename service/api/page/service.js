// Requests to the service. Addresses are relative, because a proxy may serve the page below a path prefix.

const UNREACHABLE = "The service cannot be reached.";
const INCOMPLETE = "The connection broke before the response was complete. Try again.";
const FILE_EXTENSIONS = /\.(png|jpe?g|tiff?|dcm|dicom)$/i;

/** The response of a route. Throws an Error with the service's own message, or with the reason of a failed request. */
export async function request(route, options = {}) {
  const response = await fetch(route, options).catch((error) => {
    throw options.signal?.aborted ? error : new Error(UNREACHABLE);
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => null); // the error of a proxy may have another format
  throw new Error(body?.error?.message ?? `The service returned ${response.status} ${response.statusText}.`);
}

function upload(route, file, signal) {
  const body = new FormData();
  body.append("frame", file);
  return request(route, { method: "POST", body, signal });
}

/** Yields the JSON of /segment for each frame of the file, as soon as it arrives. */
export async function* frameResults(file, parameters, signal) {
  const query = new URLSearchParams({ picture: "frame", ...parameters });
  const response = await upload(`segment?${query}`, file, signal);
  if (response.headers.get("content-type").startsWith("application/jsonl")) yield* readLines(response.body);
  else yield response.json();
}

async function* readLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let incompleteLine = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(INCOMPLETE);
    });
    if (done) break;
    const lines = (incompleteLine + value).split("\n");
    incompleteLine = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
  if (incompleteLine) throw new Error(INCOMPLETE);
}

/** Removes the frame's picture from the result and returns it as a JPEG; null for a frame that cannot be read. */
export function takePicture(result) {
  if (!result.picture) return null;
  const bytes = Uint8Array.from(atob(result.picture.split(",")[1]), (letter) => letter.charCodeAt(0));
  delete result.picture; // base64 text of a long cine would fill the memory
  return new Blob([bytes], { type: "image/jpeg" });
}

/** Whether the file is DICOM (PS3.10 7.1). Throws an Error when the file cannot be read. */
export async function isDicom(file) {
  const prefix = await file.slice(128, 132).text().catch(() => {
    throw new Error(`${file.name} cannot be read. If it is a folder, drop a file from it.`);
  });
  return prefix === "DICM";
}

/** Saves the route's response for the file, under the file's name with another ending. */
export async function download(file, route, ending) {
  const response = await upload(route, file);
  const content = await response.blob().catch(() => {
    throw new Error(INCOMPLETE);
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = file.name.replace(FILE_EXTENSIONS, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may first ask for a folder
}
