// What is known of a frame, in words.

const GAP = "\u00a0"; // between a number and its unit, where no line may end
const TOLD = ["presence", "confidence", "area", "size", "frame"]; // each an element, and how its words are made

const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat("en", { style: "percent" });

/** A network is never quite certain, and rounding must not make it so. */
function share(of) {
  if (of >= 0.995) return "over 99%";
  return of < 0.005 ? "under 1%" : percent.format(of);
}

export const words = {
  pixels: (count) => `${number.format(count)} ${count === 1 ? "pixel" : "pixels"}`,

  duration(milliseconds) {
    if (milliseconds >= 1000) return `${number.format(milliseconds / 1000)}${GAP}s`;
    return `${milliseconds < 10 ? number.format(milliseconds) : Math.round(milliseconds)}${GAP}ms`;
  },

  finding({ error, nerve }) {
    if (error) return "This frame cannot be read";
    return nerve.present ? "Nerve shown" : "No nerve shown";
  },

  presence({ nerve }, calibrated) {
    if (calibrated) return `${share(nerve.presence)} likely that the frame holds a nerve`;
    return `${share(nerve.presence)}, not calibrated: the frames of validation all hold a nerve, or none does`;
  },

  confidence({ confidence }) {
    return confidence.mask === null ? "no mask" : `a Dice of about ${share(confidence.mask)}`;
  },

  area({ nerve }) {
    if (!nerve.present) return "none";
    const known = nerve.area_mm2 === null ? "" : `, ${number.format(nerve.area_mm2)}${GAP}mm²`;
    return words.pixels(nerve.area_px) + known;
  },

  size({ nerve }) {
    if (!nerve.present) return "none";
    const [across, down] = (nerve.size_mm ?? nerve.box.slice(2)).map(number.format);
    if (!nerve.size_mm) return `${across} × ${down} pixels; no scale in mm is known`;
    return `${across}${GAP}mm wide, ${down}${GAP}mm high`;
  },

  frame({ frame }) {
    const whole = `${frame.width} × ${frame.height} pixels`;
    return frame.area ? `${whole}, of which the scan area is ${frame.area[2]} × ${frame.area[3]}` : whole;
  },

  /** The finding for those who do not see the frame. */
  sentence(outcome) {
    if (outcome.error) return `${words.finding(outcome)}. ${outcome.error.message}`;
    const { nerve } = outcome;
    const area = nerve.present ? `, area ${words.area(outcome)}` : "";
    return `${words.finding(outcome)}, presence ${share(nerve.presence)}${area}.`;
  },

  /** The server's warnings go without a capital and a full stop. */
  warning: (text) => text[0].toUpperCase() + text.slice(1).replace(/\.?$/, "."),
};

export class Findings {
  calibrated = true; // whether presence is a probability, as the model's card tells

  clear() {
    this.wait("No frame yet");
  }

  /** Before anything is known. */
  wait(text) {
    element("told").ariaLive = "polite";
    element("finding").textContent = text;
    element("finding").className = "finding";
    for (const id of ["facts", "reason", "warnings"]) element(id).hidden = true;
  }

  /** source and time: in words. aloud: whether a screen reader tells it; quick frames would talk it to death. */
  tell(outcome, source, time, aloud) {
    const { error, nerve, warnings = [] } = outcome;
    element("told").ariaLive = aloud ? "polite" : "off";
    element("finding").textContent = words.finding(outcome);
    element("finding").className = `finding ${error ? "damaged" : nerve.present ? "nerve" : "none"}`;
    element("reason").hidden = !error;
    element("reason").textContent = error ? error.message : "";
    element("facts").hidden = Boolean(error);
    if (!error) {
      for (const id of TOLD) element(id).textContent = words[id](outcome, this.calibrated);
      element("source").textContent = source;
      element("time").textContent = `${words.duration(outcome.milliseconds.network)} in the network, ${time}`;
    }
    element("warnings").hidden = !warnings.length;
    element("warnings").replaceChildren(
      ...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: words.warning(text) })),
    );
  }
}
