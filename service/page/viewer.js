// The frame on its canvas, with or without its mask.

import { words } from "./findings.js";
import { maskOf, paint } from "./mask.js";

export class Viewer {
  /** masked: the checkbox that shows the mask. */
  constructor(canvas, masked) {
    this.canvas = canvas;
    this.masked = masked;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.clear();
  }

  get empty() {
    return this.canvas.hidden;
  }

  clear() {
    this.canvas.hidden = true;
    this.picture?.close();
    this.picture = null;
    this.mask = null;
  }

  /** picture: an ImageBitmap, which is the viewer's from here on; null for a frame that cannot be read. */
  show(picture, outcome, name) {
    this.picture?.close();
    this.picture = picture;
    this.mask = null;
    if (!outcome.error) this.mask = maskOf(outcome.nerve.rle, outcome.frame.width, outcome.frame.height);
    if (picture) Object.assign(this.canvas, { width: picture.width, height: picture.height });
    this.canvas.hidden = false;
    this.canvas.ariaLabel = `${name}: ${words.sentence(outcome)}`;
    this.paint();
  }

  paint() {
    const { width, height } = this.canvas;
    this.context.clearRect(0, 0, width, height);
    if (this.picture) this.context.drawImage(this.picture, 0, 0);
    if (!this.mask || !this.masked.checked) return;
    const pixels = this.context.getImageData(0, 0, width, height);
    paint(pixels, this.mask);
    this.context.putImageData(pixels, 0, 0);
  }
}
