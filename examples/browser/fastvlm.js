// Copyright 2026 The transformers-fastvlm authors
// SPDX-License-Identifier: Apache-2.0

// FastVLM in JavaScript: what `fastvlm export --to onnx` wrote, in Node or a browser, by transformers.js.
//
//     import * as transformers from "@huggingface/transformers";
//     const model = await FastVLM.load(transformers, "exported");
//     console.log(await model.answer([{ data, width, height }], "What does it say?"));

import { toPixelValues } from "./pixels.js";

const COMMANDS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

export class FastVLM {
  /**
   * @param {object} transformers The module `@huggingface/transformers`.
   * @param {string} source Folder, address or Hub id of the export.
   * @param {object} [options] Of `from_pretrained` of transformers.js, such as `device` and `progress_callback`.
   * @returns {Promise<FastVLM>}
   */
  static async load(transformers, source, options = {}) {
    const processor = await transformers.AutoProcessor.from_pretrained(source, options);
    const model = await transformers.AutoModelForImageTextToText.from_pretrained(source, options);
    return new FastVLM(transformers, processor, model);
  }

  constructor(transformers, processor, model) {
    this.transformers = transformers;
    this.model = model;
    this.tokenizer = processor.tokenizer;
    this.imageToken = processor.config.image_token;
    this.side = processor.image_processor.config.crop_size.height;
    this.tokensPerImage = (this.side / processor.config.patch_size) ** 2;
    this.stopping = new transformers.InterruptableStoppingCriteria();
  }

  /**
   * Answer a question about pictures, greedily.
   *
   * @param {Array} images As for `toPixelValues`; may be empty.
   * @param {string} question
   * @param {object} [options]
   * @param {number} [options.maxNewTokens]
   * @param {(text: string) => void} [options.onText] Called with each new piece of the answer.
   * @returns {Promise<string>} The answer.
   * @throws {Error} If the question has a token that the model reads as a command.
   */
  async answer(images, question, { maxNewTokens = 256, onText = () => {} } = {}) {
    const command = [this.imageToken, ...COMMANDS].find((token) => question.includes(token));
    if (command) throw new Error(`The question may not contain ${command}, which the model reads as a command.`);
    const inputs = { ...this.promptOf(images.length, question), ...this.pixelsOf(images) };
    let answer = "";
    const streamer = new this.transformers.TextStreamer(this.tokenizer, {
      skip_prompt: true,
      skip_special_tokens: true,
      callback_function: (piece) => {
        answer += piece;
        onText(piece);
      },
    });
    this.stopping.reset();
    const options = { max_new_tokens: maxNewTokens, do_sample: false, streamer, stopping_criteria: this.stopping };
    await this.model.generate({ ...inputs, ...options });
    return answer.trim();
  }

  promptOf(images, question) {
    const content = [...Array(images).fill({ type: "image" }), { type: "text", text: question }];
    const options = { tokenize: false, add_generation_prompt: true };
    const prompt = this.tokenizer.apply_chat_template([{ role: "user", content }], options);
    const placeholders = this.imageToken.repeat(this.tokensPerImage);
    return this.tokenizer(prompt.replaceAll(this.imageToken, placeholders), { add_special_tokens: false });
  }

  pixelsOf(images) {
    if (!images.length) return {};
    const size = 3 * this.side ** 2;
    const pixels = new Float32Array(images.length * size);
    images.forEach((image, index) => pixels.set(toPixelValues(image, this.side), index * size));
    const shape = [images.length, 3, this.side, this.side];
    return { pixel_values: new this.transformers.Tensor("float32", pixels, shape) };
  }

  /** Let an answer that is being given end with its next token. */
  stop() {
    this.stopping.interrupt();
  }
}
