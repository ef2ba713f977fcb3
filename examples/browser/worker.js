// Copyright 2026 The transformers-fastvlm authors
// SPDX-License-Identifier: Apache-2.0

// Beside the page, so that it stays alive while the model computes. Messages in: `load`, `ask`, `stop`. Out: `progress`,
// `ready`, `text`, `done`, `error`.

import { FastVLM } from "./fastvlm.js";

const LIBRARY = "./node_modules/@huggingface/transformers/dist/transformers.min.js";
const RUNTIME = "./node_modules/onnxruntime-web/dist/";
const ELSEWHERE = "https://cdn.jsdelivr.net/npm/@huggingface/transformers@4.3.1";

let model;

/** transformers.js as npm installed it beside the page; where it is not, from a server that has it. */
async function library() {
  try {
    const transformers = await import(LIBRARY);
    transformers.env.backends.onnx.wasm.wasmPaths = new URL(RUNTIME, import.meta.url).href;
    return transformers;
  } catch {
    return import(ELSEWHERE);
  }
}

async function load({ source, hub }) {
  const transformers = await library();
  const { env } = transformers;
  env.allowLocalModels = !hub;
  env.allowRemoteModels = hub;
  env.localModelPath = new URL("./", import.meta.url).pathname;
  const device = (await navigator.gpu?.requestAdapter()) ? "webgpu" : "wasm";
  const loaded = new Map();
  const progress_callback = ({ status, file, loaded: bytes, total }) => {
    if (status !== "progress" || !total) return;
    loaded.set(file, { bytes, total });
    const sum = (name) => [...loaded.values()].reduce((all, each) => all + each[name], 0);
    postMessage({ type: "progress", bytes: sum("bytes"), total: sum("total") });
  };
  model = await FastVLM.load(transformers, source, { device, progress_callback });
  postMessage({ type: "ready", device, side: model.side });
}

async function ask({ images, question, maxNewTokens }) {
  const start = performance.now();
  let first = null;
  const onText = (text) => {
    first ??= performance.now() - start;
    postMessage({ type: "text", text, first });
  };
  const answer = await model.answer(images, question, { maxNewTokens, onText });
  postMessage({ type: "done", answer, first, total: performance.now() - start });
}

const actions = { load, ask, stop: () => model?.stop() };

onmessage = async ({ data }) => {
  try {
    await actions[data.type](data);
  } catch (error) {
    postMessage({ type: "error", message: error?.message ?? String(error) });
  }
};
