/** What this browser can send: its webcam, or a drawn test picture where there is none. */

/**
 * @typedef {{stream: MediaStream, kind: "webcam" | "test picture", why: string, close: () => void}} Source
 */

/**
 * @param {{test: boolean, microphone: boolean, label: () => string}} options
 * @returns {Promise<Source>}
 */
export async function openSource({ test, microphone, label }) {
  if (test) return testPicture("", label);
  if (!navigator.mediaDevices?.getUserMedia) {
    return testPicture(isSecureContext ? "this browser has no camera" : "browsers open cameras only on https or localhost", label);
  }
  const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video, audio: microphone });
    return { stream, kind: "webcam", why: "", close: () => stopAll(stream) };
  } catch (error) {
    const why = { NotAllowedError: "the camera was not permitted", NotFoundError: "no camera was found",
      NotReadableError: "another program uses the camera" }[/** @type {Error} */ (error).name] ?? "the camera did not start";
    return testPicture(why, label);
  }
}

/** Names of the codecs for what the stream has, for the presence: callers then ask for no more. @param {MediaStream} stream */
export function sendable(stream) {
  const names = stream.getTracks().flatMap(({ kind }) => RTCRtpSender.getCapabilities(kind)?.codecs ?? [])
    .map(({ mimeType }) => mimeType.split("/")[1])
    .filter((name) => !/^(rtx|red|ulpfec|flexfec.*|CN|telephone-event)$/i.test(name));
  return [...new Set(names)];
}

const width = 640;
const height = 360;
const bars = ["#c9c9c9", "#c7c32a", "#2bc4c4", "#33bd3c", "#bd35bb", "#bf332c", "#3138bf"];

/** @param {string} why @param {() => string} label @returns {Source} */
function testPicture(why, label) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  const worker = new Worker(new URL("tick.js?rate=15", import.meta.url));
  let frame = 0;
  worker.onmessage = () => draw(context, frame++, label());
  draw(context, frame++, label());
  const stream = canvas.captureStream(15);
  return { stream, kind: "test picture", why, close: () => { worker.terminate(); stopAll(stream); } };
}

/** Bars to judge colour by, a clock to judge delay by, a sweep that shows lost frames. */
function draw(/** @type {CanvasRenderingContext2D} */ context, /** @type {number} */ frame, /** @type {string} */ label) {
  const bar = width / bars.length;
  bars.forEach((colour, i) => { context.fillStyle = colour; context.fillRect(Math.floor(i * bar), 0, Math.ceil(bar), 240); });

  const grey = context.createLinearGradient(0, 0, width, 0);
  grey.addColorStop(0, "#000");
  grey.addColorStop(1, "#fff");
  context.fillStyle = grey;
  context.fillRect(0, 240, width, 22);
  context.fillStyle = "#10201d";
  context.fillRect(0, 262, width, height - 262);

  const now = new Date();
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const clock = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}.${Math.floor(now.getMilliseconds() / 100)}`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.fillStyle = "#f3fbf8";
  context.font = "600 44px ui-monospace, Menlo, Consolas, monospace";
  context.fillText(clock, 24, 308);
  context.textAlign = "right";
  context.font = "600 20px system-ui, sans-serif";
  context.fillText("Test picture", width - 24, 296);
  context.font = "16px system-ui, sans-serif";
  context.fillStyle = "#a5c4bb";
  context.fillText(label, width - 24, 322);

  context.fillStyle = "#fff";
  context.fillRect((frame * 8) % width, 232, 40, 8);
  context.fillStyle = "#5eead4";
  context.fillRect(0, height - 5, (width * (now.getSeconds() + now.getMilliseconds() / 1000)) / 60, 5);
}

/** @param {MediaStream} stream */
function stopAll(stream) {
  for (const track of stream.getTracks()) track.stop();
}
