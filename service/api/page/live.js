// Sends the frames of a camera or screen over a WebSocket, and shows each response with the frame it belongs to.

const MAX_PENDING = 2; // one frame in the network, and one that waits for it
const MAX_SIDE_PX = 960; // more than any network uses; larger frames take longer to send
const JPEG_QUALITY = 0.9;
const RATE_WINDOW_MS = 1000;

const NOT_AVAILABLE = "is not available: browsers allow it only over https or on localhost, and not on every device.";
const CONNECTION_CLOSED =
  "The live connection was refused or ended. Try again later: the service may have too many streams.";
const ACCESS_ERRORS = {
  NotFoundError: "was not found.",
  NotReadableError: "cannot be read: another program may be using it.",
  NotAllowedError: "was not allowed: allow this page to use it in the browser, and try again.",
};

export const camera = {
  name: "camera",
  open() {
    const video = { facingMode: "environment", width: { ideal: MAX_SIDE_PX } };
    return navigator.mediaDevices.getUserMedia({ video });
  },
};

export const screen = {
  name: "screen",
  open() {
    return navigator.mediaDevices.getDisplayMedia({ video: true });
  },
};

async function openMedia(source) {
  try {
    return await source.open();
  } catch (error) {
    throw new Error(`The ${source.name} ${ACCESS_ERRORS[error.name] ?? NOT_AVAILABLE}`);
  }
}

/**
 * Segments the source's frames until the signal aborts or the source ends. Throws an Error with the reason of a failure.
 * parameters: of /stream, besides `drop`.
 * show(picture, result, {rate, delay}): receives an ImageBitmap, the JSON of /segment for it, the number of responses
 * in the last second, and the milliseconds from the frame to its response.
 */
export async function streamFrames(source, parameters, signal, show) {
  const media = await openMedia(source);
  const query = new URLSearchParams({ drop: true, ...parameters });
  const address = new URL(`stream?${query}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  try {
    await exchangeFrames(media, socket, signal, show);
  } finally {
    socket.close();
    for (const track of media.getTracks()) track.stop();
  }
}

async function exchangeFrames(media, socket, signal, show) {
  const video = Object.assign(document.createElement("video"), { srcObject: media, muted: true, playsInline: true });
  const pending = new Map(); // the sent frames by message number
  let messageCount = 0;
  let hasNewFrame = false; // the video shows a frame that was not sent yet
  let isEncoding = false;
  let responseTimes = []; // within the last second

  async function sendFrame() {
    if (!hasNewFrame || isEncoding || pending.size >= MAX_PENDING || socket.readyState !== WebSocket.OPEN) return;
    hasNewFrame = false;
    isEncoding = true;
    const start = performance.now();
    const { picture, jpeg } = await captureFrame(video);
    isEncoding = false;
    if (socket.readyState !== WebSocket.OPEN) return;
    pending.set(messageCount++, { picture, start });
    socket.send(jpeg);
  }

  function receiveResponse({ data }) {
    const result = JSON.parse(data);
    const { picture, start } = pending.get(result.message);
    pending.delete(result.message);
    if (result.dropped) {
      picture.close();
    } else {
      const now = performance.now();
      responseTimes = [...responseTimes.filter((time) => now - time < RATE_WINDOW_MS), now];
      show(picture, result, { rate: responseTimes.length, delay: now - start });
    }
    sendFrame();
  }

  function onVideoFrame() {
    hasNewFrame = true;
    sendFrame();
    video.requestVideoFrameCallback(onVideoFrame);
  }

  const end = new Promise((resolve, reject) => {
    signal.addEventListener("abort", resolve);
    media.getVideoTracks()[0].addEventListener("ended", resolve);
    socket.addEventListener("close", () => reject(new Error(CONNECTION_CLOSED)));
  });
  socket.addEventListener("message", receiveResponse);
  socket.addEventListener("open", sendFrame);
  if (signal.aborted) return;
  await Promise.race([video.play(), end]);
  onVideoFrame();
  await end;
}

/** The current frame of the video: as an ImageBitmap to show and as a JPEG to send. */
async function captureFrame(video) {
  const scale = Math.min(1, MAX_SIDE_PX / Math.max(video.videoWidth, video.videoHeight));
  const canvas = new OffscreenCanvas(Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const [picture, jpeg] = await Promise.all([
    createImageBitmap(canvas),
    canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY }),
  ]);
  return { picture, jpeg };
}
