// A mask as pixels, and its paint.

const NERVE = [255, 193, 7]; // amber: far from grey, and told from it by people who see few colours
const TINT = 0.3; // share of the colour inside the outline

/**
 * Run-lengths to pixels, row by row, 1 where the nerve is.
 * rle: pairs of 1-based start and length, pixels counted down the columns, left to right.
 */
export function maskOf(rle, width, height) {
  const mask = new Uint8Array(width * height);
  const numbers = rle ? rle.split(" ").map(Number) : [];
  for (let i = 0; i < numbers.length; i += 2) {
    const first = numbers[i] - 1;
    for (let at = first; at < first + numbers[i + 1]; at++) {
      mask[(at % height) * width + Math.floor(at / height)] = 1;
    }
  }
  return mask;
}

/** Tints the mask's pixels, and no others: its outline lies inside it. pixels: ImageData of the mask's size. */
export function paint(pixels, mask) {
  const { data, width, height } = pixels;
  const thickness = Math.max(1, Math.round(Math.min(width, height) / 300)); // pixels, to be seen on a large frame, too
  const outside = (x, y) => x < 0 || y < 0 || x >= width || y >= height || !mask[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!mask[y * width + x]) continue;
      const across = outside(x - thickness, y) || outside(x + thickness, y);
      const outline = across || outside(x, y - thickness) || outside(x, y + thickness);
      const share = outline ? 1 : TINT;
      const at = 4 * (y * width + x);
      for (let colour = 0; colour < 3; colour++) {
        data[at + colour] = data[at + colour] * (1 - share) + NERVE[colour] * share;
      }
    }
  }
}
