// Copyright 2026 The transformers-fastvlm authors
// SPDX-License-Identifier: Apache-2.0

// The page: a picture or the camera, a question, and the answer as it comes. `?model=FOLDER` names an export on the same
// server (by default `model`), `?hub=ORG/NAME` one on the Hub.

const MAX_NEW_TOKENS = 256;
const CAPTION_TOKENS = 48;

const [status, progress, picture, hint, still, camera, file, question, ask, live, answer, time] = [
  "status", "progress", "picture", "hint", "still", "camera", "file", "question", "ask", "live", "answer", "time",
].map((id) => document.getElementById(id));
const worker = new Worker("worker.js", { type: "module" });

let ready = false;
let busy = false;

function tell(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function refresh() {
  const hasPicture = !still.hidden || !camera.hidden;
  ask.disabled = !ready || !hasPicture;
  ask.textContent = busy ? "Stop" : "Ask";
  live.disabled = !ready || camera.hidden;
}

function isLive() {
  return live.getAttribute("aria-pressed") === "true";
}

function setLive(on) {
  live.setAttribute("aria-pressed", String(on));
}

/** Pixels of what is shown, without the colours being converted. */
function pixels() {
  const context = still.getContext("2d", { willReadFrequently: true });
  if (!camera.hidden) {
    [still.width, still.height] = [camera.videoWidth, camera.videoHeight];
    context.drawImage(camera, 0, 0);
  }
  const { data, width, height } = context.getImageData(0, 0, still.width, still.height);
  return { data, width, height };
}

function start(maxNewTokens) {
  busy = true;
  answer.textContent = "";
  time.textContent = "";
  const image = pixels();
  worker.postMessage({ type: "ask", images: [image], question: question.value, maxNewTokens }, [image.data.buffer]);
  refresh();
}

async function show(blob) {
  try {
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    stopCamera();
    [still.width, still.height] = [bitmap.width, bitmap.height];
    still.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
    still.hidden = false;
    hint.hidden = true;
    if (ready) tell("Ready.");
  } catch {
    tell(`${blob.name ?? "This"} is no picture that this browser can read.`, true);
  }
  refresh();
}

function stopCamera() {
  camera.srcObject?.getTracks().forEach((track) => track.stop());
  camera.srcObject = null;
  camera.hidden = true;
  setLive(false);
}

async function startCamera() {
  try {
    camera.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await camera.play();
    still.hidden = true;
    hint.hidden = true;
    camera.hidden = false;
  } catch (error) {
    tell(`There is no camera to use: ${error.message}`, true);
  }
  refresh();
}

const told = {
  progress({ bytes, total }) {
    progress.value = bytes / total;
    tell(`Loading the model: ${Math.round(bytes / 1e6)} of ${Math.round(total / 1e6)} MB`);
  },
  ready({ device, side }) {
    ready = true;
    progress.hidden = true;
    tell(`Ready, with ${device === "webgpu" ? "WebGPU" : "WebAssembly"}; pictures are read at ${side} × ${side} pixels.`);
  },
  text({ text, first }) {
    answer.textContent += text;
    time.textContent = `First token after ${(first / 1000).toFixed(2)} s`;
  },
  done({ answer: whole, first, total }) {
    busy = false;
    answer.textContent = whole;
    if (first !== null) {
      time.textContent = `First token after ${(first / 1000).toFixed(2)} s, all after ${(total / 1000).toFixed(2)} s`;
    }
    if (isLive()) start(CAPTION_TOKENS);
  },
  error({ message }) {
    busy = false;
    setLive(false);
    tell(message, true);
  },
};

worker.onmessage = ({ data }) => {
  told[data.type](data);
  refresh();
};
worker.onerror = (event) => told.error({ message: event.message || "The model's worker could not start." });

file.onchange = () => file.files.length && show(file.files[0]);
document.getElementById("camera-button").onclick = startCamera;
document.getElementById("form").onsubmit = (event) => {
  event.preventDefault();
  if (busy) worker.postMessage({ type: "stop" });
  else start(MAX_NEW_TOKENS);
};
live.onclick = () => {
  setLive(!isLive());
  if (isLive() && !busy) start(CAPTION_TOKENS);
};
picture.ondragover = (event) => {
  event.preventDefault();
  picture.classList.add("over");
};
picture.ondragleave = () => picture.classList.remove("over");
picture.ondrop = (event) => {
  event.preventDefault();
  picture.classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) show(dropped);
};

const options = new URLSearchParams(location.search);
const hub = options.get("hub");
worker.postMessage({ type: "load", source: hub ?? options.get("model") ?? "model", hub: hub !== null });
