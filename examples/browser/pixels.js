// Copyright 2026 The transformers-fastvlm authors
// SPDX-License-Identifier: Apache-2.0

// A picture as FastVLM wants it: padded to a square with black, made smaller by Pillow's bicubic resampling, which the
// model was trained with. Canvas and transformers.js resample otherwise. Sums are those of Pillow's integers, so that
// the pixels are the same as in Python.

const BITS = 22; // of the fractions that weights are rounded to
const SUPPORT = 2; // pixels on either side, of the filter at scale 1

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

/** For each new pixel, the first old one that counts and the weights from there on. */
function weightsOf(oldSize, newSize) {
  const scale = oldSize / newSize;
  const widening = Math.max(scale, 1);
  const reach = SUPPORT * widening;
  return Array.from({ length: newSize }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), oldSize);
    const weights = Float64Array.from({ length: end - first }, (_, i) => bicubic((i + first - center + 0.5) / widening));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => Math.trunc((weight / sum) * 2 ** BITS + (weight < 0 ? -0.5 : 0.5))) };
  });
}

function rounded(sum) {
  return Math.min(Math.max(Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS), 0), 255);
}

/**
 * Model input of a picture.
 *
 * @param {{data: Uint8Array | Uint8ClampedArray, width: number, height: number, channels?: number}} image Rows of
 *   pixels of 1, 3 or 4 bytes (the default, as of a canvas); of the fourth, opacity, nothing is used.
 * @param {number} side Of the square that the model takes.
 * @returns {Float32Array} `(3, side, side)`, in 0..1.
 */
export function toPixelValues({ data, width, height, channels = 4 }, side) {
  const square = Math.max(width, height);
  const left = Math.floor((square - width) / 2);
  const top = Math.floor((square - height) / 2);
  const weights = weightsOf(square, side);
  const narrow = new Uint8Array(3 * height * side); // rows of the picture alone: those of the black bars are black
  for (let x = 0; x < side; x++) {
    const { first, weights: across } = weights[x];
    const begin = Math.max(first, left);
    const end = Math.min(first + across.length, left + width);
    for (let y = 0; y < height; y++) {
      for (let color = 0; color < 3; color++) {
        const offset = channels < 3 ? 0 : color;
        let sum = 0;
        for (let i = begin; i < end; i++) sum += across[i - first] * data[(y * width + i - left) * channels + offset];
        narrow[(color * height + y) * side + x] = rounded(sum);
      }
    }
  }
  const pixels = new Float32Array(3 * side * side);
  for (let y = 0; y < side; y++) {
    const { first, weights: down } = weights[y];
    const begin = Math.max(first, top);
    const end = Math.min(first + down.length, top + height);
    for (let color = 0; color < 3; color++) {
      for (let x = 0; x < side; x++) {
        let sum = 0;
        for (let i = begin; i < end; i++) sum += down[i - first] * narrow[(color * height + i - top) * side + x];
        pixels[(color * side + y) * side + x] = rounded(sum) / 255;
      }
    }
  }
  return pixels;
}
