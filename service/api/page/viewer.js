// Draws a frame on the canvas, with or without its mask.

import { decodeMask, drawMask, drawOutlines } from "./mask.js";
import { describe } from "./result.js";

export class Viewer {
  /** showMask, showOutlines: checkboxes. */
  constructor(canvas, showMask, showOutlines) {
    this.canvas = canvas;
    this.showMask = showMask;
    this.showOutlines = showOutlines;
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
    this.mask = this.outlines = null;
  }

  /** picture: an ImageBitmap that the viewer closes later; null for a frame that cannot be read. */
  show(picture, result, name) {
    this.picture?.close();
    this.picture = picture;
    this.mask = null;
    this.outlines = result.nerve?.outlines;
    if (!result.error) this.mask = decodeMask(result.nerve.rle, result.frame.width, result.frame.height);
    if (picture) Object.assign(this.canvas, { width: picture.width, height: picture.height });
    this.canvas.hidden = false;
    this.canvas.ariaLabel = `${name}: ${describe.sentence(result)}`;
    this.draw();
  }

  draw() {
    const { width, height } = this.canvas;
    this.context.clearRect(0, 0, width, height);
    if (this.picture) this.context.drawImage(this.picture, 0, 0);
    if (this.mask && this.showMask.checked) {
      const pixels = this.context.getImageData(0, 0, width, height);
      drawMask(pixels, this.mask);
      this.context.putImageData(pixels, 0, 0);
    }
    if (this.outlines && this.showOutlines.checked) drawOutlines(this.context, this.outlines);
  }
}
