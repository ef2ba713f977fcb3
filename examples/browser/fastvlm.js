// Copyright 2026 The transformers-fastvlm authors
// SPDX-License-Identifier: Apache-2.0

// FastVLM in JavaScript: a folder that `fastvlm export --to onnx` wrote, in Node or a browser, by transformers.js.

import { AutoModelForImageTextToText, AutoProcessor, InterruptableStoppingCriteria, Tensor, TextStreamer, env } from "@huggingface/transformers";
import { toPixelValues } from "./pixels.js";

export { env, toPixelValues };

export class FastVLM {
  /**
   * @param {string} source Folder, address or Hub id of the export.
   * @param {object} [options] Of `from_pretrained` of transformers.js, such as `device` and `progress_callback`.
   * @returns {Promise<FastVLM>}
   */
  static async load(source, options = {}) {
    const processor = await AutoProcessor.from_pretrained(source, options);
    const model = await AutoModelForImageTextToText.from_pretrained(source, options);
    return new FastVLM(processor, model);
  }

  constructor(processor, model) {
    this.model = model;
    this.tokenizer = processor.tokenizer;
    this.imageToken = processor.config.image_token;
    this.side = processor.image_processor.config.crop_size.height;
    this.tokensPerImage = Math.floor(this.side / processor.config.patch_size) ** 2;
    this.stopping = new InterruptableStoppingCriteria();
  }

  /**
   * Answer a question about pictures.
   *
   * @param {Array} images As for `toPixelValues`; may be empty.
   * @param {string} question
   * @param {object} [options]
   * @param {number} [options.maxNewTokens]
   * @param {(text: string) => void} [options.onText] Called with each new piece of the answer.
   * @returns {Promise<string>} The answer.
   */
  async answer(images, question, { maxNewTokens = 256, onText = () => {} } = {}) {
    for (const token of [this.imageToken, "<|im_start|>", "<|im_end|>"]) {
      if (question.includes(token)) throw new Error(`The question may not contain ${token}, which the model reads as a command.`);
    }
    const content = [...images.map(() => ({ type: "image" })), { type: "text", text: question }];
    const prompt = this.tokenizer.apply_chat_template([{ role: "user", content }], { tokenize: false, add_generation_prompt: true });
    const text = prompt.replaceAll(this.imageToken, this.imageToken.repeat(this.tokensPerImage));
    const inputs = this.tokenizer(text, { add_special_tokens: false });
    if (images.length) {
      const pixels = new Float32Array(images.length * 3 * this.side ** 2);
      images.forEach((image, index) => pixels.set(toPixelValues(image, this.side), index * 3 * this.side ** 2));
      inputs.pixel_values = new Tensor("float32", pixels, [images.length, 3, this.side, this.side]);
    }
    let answer = "";
    const streamer = new TextStreamer(this.tokenizer, {
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

  /** Let an answer that is being given end at its next token. */
  stop() {
    this.stopping.interrupt();
  }
}
