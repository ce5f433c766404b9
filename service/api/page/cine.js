// The frames of one upload, with a slider and a play button for a cine.

import { describe } from "./result.js";

const DEFAULT_RATE_HZ = 15; // for a cine without a frame rate: slow enough to watch

const element = (id) => document.getElementById(id);

export class Cine {
  /** showFrame(frame, name, announce): draws one of the frames. */
  constructor(showFrame) {
    this.showFrame = showFrame;
    this.frames = [];
    element("frame-slider").addEventListener("input", () => this.goTo(element("frame-slider").valueAsNumber));
    element("play").addEventListener("click", () => (this.playback ? this.pause() : this.play()));
  }

  get count() {
    return this.frames.length;
  }

  clear() {
    this.pause();
    this.frames = [];
    this.index = 0;
    this.isComplete = false;
    element("cine").hidden = element("strip-legend").hidden = true;
  }

  /** picture: the frame's JPEG, null for an unreadable frame. milliseconds: since the start of the upload. */
  async add(result, picture, milliseconds) {
    this.frames.push({ result, picture, milliseconds });
    if (this.count === 1) await this.goTo(0, true);
    this.scheduleUpdate();
  }

  /** Marks the cine as complete: the service sends no more frames. */
  complete() {
    this.isComplete = true;
    this.scheduleUpdate();
  }

  isShown(result) {
    return this.frames[this.index]?.result === result;
  }

  step(offset) {
    if (this.count < 2) return;
    this.pause();
    this.goTo(Math.min(Math.max(this.index + offset, 0), this.count - 1));
  }

  async play() {
    const playback = (this.playback = {});
    element("play").textContent = "Pause";
    while (this.playback === playback) {
      const rate = this.frames.find(({ result }) => !result.error)?.result.frame.rate_hz ?? DEFAULT_RATE_HZ;
      const interval = new Promise((resolve) => setTimeout(resolve, 1000 / rate));
      await this.goTo((this.index + 1) % this.count); // drawing a large frame may take longer than the interval
      await interval;
    }
  }

  pause() {
    element("play").textContent = "Play";
    this.playback = null;
  }

  goTo(index, announce = false) {
    this.index = index;
    if (this.count > 1) this.updateSlider();
    return this.showFrame(this.frames[index], this.count > 1 ? this.frameName() : "Frame", announce);
  }

  frameName() {
    return `Frame ${this.index + 1} of ${this.count}${this.isComplete ? "" : " so far"}`;
  }

  updateSlider() {
    const slider = element("frame-slider");
    slider.value = this.index;
    slider.ariaValueText = `${this.frameName()}: ${describe.sentence(this.frames[this.index].result)}`;
    element("frame-position").textContent = this.frameName();
  }

  /** Updates the slider and the strip once before the next paint, however many frames arrive until then. */
  scheduleUpdate() {
    cancelAnimationFrame(this.scheduled);
    this.scheduled = requestAnimationFrame(() => this.count > 1 && this.update());
  }

  /** Fits the slider to the number of frames, and draws the strip of frames with and without a nerve below it. */
  update() {
    element("cine").hidden = element("strip-legend").hidden = false;
    element("frame-slider").max = this.count - 1;
    this.updateSlider();
    const strip = element("nerve-strip");
    strip.width = this.count;
    const context = strip.getContext("2d");
    const style = getComputedStyle(strip); // the colours of the legend
    this.frames.forEach(({ result: { error, nerve } }, index) => {
      context.fillStyle = style.getPropertyValue(error ? "--unreadable" : nerve.present ? "--nerve" : "--no-nerve");
      context.fillRect(index, 0, 1, 1);
    });
  }
}
