// The frames of one upload, with a scrubber where there are several.

import { words } from "./findings.js";

const RATE_HZ = 15; // of a cine that does not tell its own: slow enough for the eye

const element = (id) => document.getElementById(id);

export class Cine {
  /** show(frame, name, aloud): draws one of the frames. */
  constructor(show) {
    this.show = show;
    this.frames = [];
    element("scrubber").addEventListener("input", () => this.go(element("scrubber").valueAsNumber));
    element("play").addEventListener("click", () => (this.playing ? this.pause() : this.play()));
  }

  get count() {
    return this.frames.length;
  }

  clear() {
    this.pause();
    this.frames = [];
    this.index = 0;
    this.whole = false;
    element("cine").hidden = element("legend").hidden = true;
  }

  /** picture: the frame's JPEG, null for one that cannot be read. after: milliseconds since the upload began. */
  async add(outcome, picture, after) {
    this.frames.push({ outcome, picture, after });
    if (this.count === 1) await this.go(0, true);
    this.lay();
  }

  /** No more frames will come. */
  complete() {
    this.whole = true;
    this.lay();
  }

  isShown(outcome) {
    return this.frames[this.index]?.outcome === outcome;
  }

  step(by) {
    if (this.count < 2) return;
    this.pause();
    this.go(Math.min(Math.max(this.index + by, 0), this.count - 1));
  }

  async play() {
    const playing = (this.playing = {});
    element("play").textContent = "Pause";
    while (this.playing === playing) {
      const rate = this.frames.find(({ outcome }) => !outcome.error)?.outcome.frame.rate_hz ?? RATE_HZ;
      const shown = new Promise((resolve) => setTimeout(resolve, 1000 / rate));
      await this.go((this.index + 1) % this.count); // a large frame may take longer than its time
      await shown;
    }
  }

  pause() {
    element("play").textContent = "Play";
    this.playing = null;
  }

  go(index, aloud = false) {
    this.index = index;
    if (this.count > 1) this.place();
    return this.show(this.frames[index], this.count > 1 ? this.name() : "Frame", aloud);
  }

  name() {
    return `Frame ${this.index + 1} of ${this.count}${this.whole ? "" : " so far"}`;
  }

  /** The slider where the frame is. */
  place() {
    element("scrubber").value = this.index;
    element("scrubber").ariaValueText = `${this.name()}: ${words.sentence(this.frames[this.index].outcome)}`;
    element("position").textContent = this.name();
  }

  /** Lays the slider out when the screen is next drawn: many frames may come before that. */
  lay() {
    cancelAnimationFrame(this.laying);
    this.laying = requestAnimationFrame(() => this.count > 1 && this.layOut());
  }

  /** The slider as long as the cine, and below it a strip that tells where a nerve is. */
  layOut() {
    element("cine").hidden = element("legend").hidden = false;
    element("scrubber").max = this.count - 1;
    this.place();
    const strip = element("strip");
    strip.width = this.count;
    const context = strip.getContext("2d");
    const style = getComputedStyle(strip); // the legend's colours
    this.frames.forEach(({ outcome: { error, nerve } }, index) => {
      context.fillStyle = style.getPropertyValue(error ? "--damaged" : nerve.present ? "--nerve" : "--none");
      context.fillRect(index, 0, 1, 1);
    });
  }
}
