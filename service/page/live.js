// A camera or a screen, frame by frame over a WebSocket; each answer with the very frame it belongs to.

const UNANSWERED = 2; // one that the network works at, and one that waits for it
const LONGEST_SIDE = 960; // pixels; no network looks closer, and a larger frame takes long to send
const JPEG_QUALITY = 0.9;
const SECOND = 1000;

const MISSING = "is not available: a browser gives it only over https, and not on every device.";
const REFUSALS = {
  NotFoundError: "was not found.",
  NotReadableError: "cannot be read: another program may be using it.",
  NotAllowedError: "was not allowed to this page: allow it in the browser and try again.",
};

export const camera = {
  name: "camera",
  open() {
    const video = { facingMode: "environment", width: { ideal: LONGEST_SIDE } };
    return navigator.mediaDevices.getUserMedia({ video });
  },
};

export const screen = {
  name: "screen",
  open() {
    return navigator.mediaDevices.getDisplayMedia({ video: true });
  },
};

async function open(source) {
  try {
    return await source.open();
  } catch (fault) {
    throw new Error(`The ${source.name} ${REFUSALS[fault.name] ?? MISSING}`);
  }
}

/**
 * Shows the source's frames until the signal comes or the source ends. Throws an Error that says what went wrong.
 * show(picture, outcome, {rate, delay}): an ImageBitmap, what /segment would say of it, answers in the last second,
 * and milliseconds from the frame to its answer.
 */
export async function live(source, signal, show) {
  const media = await open(source);
  const address = new URL("stream?drop=true", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  try {
    await follow(media, socket, signal, show);
  } finally {
    socket.close();
    for (const track of media.getTracks()) track.stop();
  }
}

async function follow(media, socket, signal, show) {
  const video = Object.assign(document.createElement("video"), { srcObject: media, muted: true, playsInline: true });
  const waiting = new Map(); // the frames that are not answered yet, by their number
  let sent = 0;
  let fresh = false; // whether the video shows a frame that was not sent
  let encoding = false;
  let answered = []; // when, within the last second

  async function send() {
    if (!fresh || encoding || waiting.size >= UNANSWERED || socket.readyState !== WebSocket.OPEN) return;
    fresh = false;
    encoding = true;
    const since = performance.now();
    const { picture, jpeg } = await grab(video);
    encoding = false;
    if (socket.readyState !== WebSocket.OPEN) return;
    waiting.set(sent++, { picture, since });
    socket.send(jpeg);
  }

  function take({ data }) {
    const outcome = JSON.parse(data);
    const { picture, since } = waiting.get(outcome.message);
    waiting.delete(outcome.message);
    if (outcome.dropped) {
      picture.close();
    } else {
      const now = performance.now();
      answered = [...answered.filter((then) => now - then < SECOND), now];
      show(picture, outcome, { rate: answered.length, delay: now - since });
    }
    send();
  }

  function offer() {
    fresh = true;
    send();
    video.requestVideoFrameCallback(offer);
  }

  const over = new Promise((resolve, reject) => {
    signal.addEventListener("abort", resolve);
    media.getVideoTracks()[0].addEventListener("ended", resolve);
    socket.addEventListener("close", () => reject(new Error("The live connection was refused, or broke off.")));
  });
  socket.addEventListener("message", take);
  socket.addEventListener("open", send);
  if (signal.aborted) return;
  await Promise.race([video.play(), over]);
  offer();
  await over;
}

/** The video's frame as it is now: to keep, and to send. */
async function grab(video) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const [picture, jpeg] = await Promise.all([
    createImageBitmap(canvas),
    canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY }),
  ]);
  return { picture, jpeg };
}
