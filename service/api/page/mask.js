// Decodes a mask and draws it, and its outlines, on a frame.

const NERVE_RGB = [255, 193, 7]; // amber differs from grey, also for people with colour blindness
const OUTLINES_COLOUR = "rgb(86, 180, 233)"; // sky blue differs from amber, also for people with colour blindness
const TINT = 0.3; // opacity inside the outline

/**
 * The run-length encoded mask as Uint8Array, row by row, 1 where the nerve is.
 * rle: pairs of 1-based start and length; pixels are counted down the columns, from left to right.
 */
export function decodeMask(rle, width, height) {
  const mask = new Uint8Array(width * height);
  const numbers = rle ? rle.split(" ").map(Number) : [];
  for (let i = 0; i < numbers.length; i += 2) {
    const start = numbers[i] - 1;
    for (let pixel = start; pixel < start + numbers[i + 1]; pixel++) {
      mask[(pixel % height) * width + Math.floor(pixel / height)] = 1;
    }
  }
  return mask;
}

/** Pixels; an outline is visible on a large frame, too. */
const outlineThickness = (width, height) => Math.max(1, Math.round(Math.min(width, height) / 300));

/** Draws the outer and the inner outline. outlines: of the JSON of /segment. */
export function drawOutlines(context, { outer, inner }) {
  context.strokeStyle = OUTLINES_COLOUR;
  context.lineWidth = outlineThickness(context.canvas.width, context.canvas.height);
  context.beginPath();
  for (const [start, ...points] of [...outer, ...inner]) {
    context.moveTo(start[0] + 0.5, start[1] + 0.5); // the centre of a pixel
    for (const [x, y] of points) context.lineTo(x + 0.5, y + 0.5);
  }
  context.stroke();
}

/** Tints the pixels of the mask; the outline is drawn inside it. pixels: ImageData of the mask's size. */
export function drawMask(pixels, mask) {
  const { data, width, height } = pixels;
  const thickness = outlineThickness(width, height);
  const isOutside = (x, y) => x < 0 || y < 0 || x >= width || y >= height || !mask[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!mask[y * width + x]) continue;
      const horizontal = isOutside(x - thickness, y) || isOutside(x + thickness, y);
      const isOutline = horizontal || isOutside(x, y - thickness) || isOutside(x, y + thickness);
      const opacity = isOutline ? 1 : TINT;
      const offset = 4 * (y * width + x);
      for (let channel = 0; channel < 3; channel++) {
        data[offset + channel] = data[offset + channel] * (1 - opacity) + NERVE_RGB[channel] * opacity;
      }
    }
  }
}
