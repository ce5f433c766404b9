// The result for a frame, in words.

const NBSP = "\u00a0"; // no line break between a number and its unit
const FACTS = ["presence", "confidence", "area", "size", "outlines", "frame"]; // functions of `describe`; elements fact-NAME

const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat("en", { style: "percent" });

/** Never rounds to 0 % or 100 %: a network is never certain. */
function formatProbability(probability) {
  if (probability >= 0.995) return "over 99%";
  return probability < 0.005 ? "under 1%" : percent.format(probability);
}

export const describe = {
  pixels: (count) => `${number.format(count)} ${count === 1 ? "pixel" : "pixels"}`,

  duration(milliseconds) {
    if (milliseconds >= 1000) return `${number.format(milliseconds / 1000)}${NBSP}s`;
    return `${milliseconds < 10 ? number.format(milliseconds) : Math.round(milliseconds)}${NBSP}ms`;
  },

  title({ error, nerve }) {
    if (error) return "This frame cannot be read";
    return nerve.present ? "Nerve shown" : "No nerve shown";
  },

  presence({ nerve }, isCalibrated) {
    const probability = formatProbability(nerve.presence);
    if (isCalibrated) return `${probability} probability that the frame shows a nerve`;
    return `${probability}, not calibrated: the validation frames do not include both kinds, with and without a nerve`;
  },

  confidence({ confidence }) {
    return confidence.mask === null ? "no mask" : `expected Dice ${confidence.mask.toFixed(2)}`;
  },

  area({ nerve }) {
    if (!nerve.present) return "none";
    const areaMm2 = nerve.area_mm2 === null ? "" : `, ${number.format(nerve.area_mm2)}${NBSP}mm²`;
    return describe.pixels(nerve.area_px) + areaMm2;
  },

  size({ nerve }) {
    if (!nerve.present) return "none";
    const [width, height] = (nerve.size_mm ?? nerve.box.slice(2)).map(number.format);
    if (!nerve.size_mm) return `${width} × ${height} pixels; the scale in mm is unknown`;
    return `${width}${NBSP}mm wide, ${height}${NBSP}mm high`;
  },

  outlines({ nerve: { outlines } }) {
    if (!outlines) return "";
    return outlines.guaranteed ? "with their guarantee" : "without a guarantee for this frame";
  },

  /** What the outlines of a model promise. margins: of its card. */
  guarantee({ coverage, level }) {
    const [least, frames] = [coverage, level].map((share) => percent.format(share));
    return `Blue: the outer outline holds at least ${least} of the nerve in ${frames} of the frames like the validation frames. In ${frames}, at least ${least} of the inner one is nerve.`;
  },

  frame({ frame }) {
    const frameSize = `${frame.width} × ${frame.height} pixels`;
    return frame.area ? `${frameSize}; scan area ${frame.area[2]} × ${frame.area[3]} pixels` : frameSize;
  },

  /** The result in one sentence, for screen readers. */
  sentence(result) {
    if (result.error) return `${describe.title(result)}. ${result.error.message}`;
    const { nerve } = result;
    const area = nerve.present ? `, area ${describe.area(result)}` : "";
    return `${describe.title(result)}, presence ${formatProbability(nerve.presence)}${area}.`;
  },

  /** The service's warnings begin with a small letter and have no full stop. */
  warning: (text) => text[0].toUpperCase() + text.slice(1).replace(/\.?$/, "."),
};

export class ResultPanel {
  presenceIsCalibrated = true; // whether presence is a probability; the model card says so

  clear() {
    this.showStatus("No frame yet");
  }

  /** Shows a text instead of a result. */
  showStatus(text) {
    element("result").ariaLive = "polite";
    element("result-title").textContent = text;
    element("result-title").className = "result-title";
    for (const id of ["result-facts", "result-error", "warnings"]) element(id).hidden = true;
  }

  /** source, time: as text. announce: whether a screen reader reads it aloud; off for frames that follow quickly. */
  show(result, source, time, announce) {
    const { error, nerve, warnings = [] } = result;
    element("result").ariaLive = announce ? "polite" : "off";
    element("result-title").textContent = describe.title(result);
    element("result-title").className = `result-title ${error ? "unreadable" : nerve.present ? "nerve" : "no-nerve"}`;
    element("result-error").hidden = !error;
    element("result-error").textContent = error ? error.message : "";
    element("result-facts").hidden = Boolean(error);
    if (!error) {
      for (const name of FACTS) element(`fact-${name}`).textContent = describe[name](result, this.presenceIsCalibrated);
      element("outlines-row").hidden = !nerve.outlines;
      element("fact-source").textContent = source;
      element("fact-time").textContent = `${describe.duration(result.milliseconds.network)} in the network, ${time}`;
    }
    element("warnings").hidden = !warnings.length;
    element("warnings").replaceChildren(
      ...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: describe.warning(text) })),
    );
  }
}
