"""Training frames, moved and changed so that the net meets more probes and gains than were recorded."""

import math

import cv2
import keras
import numpy as np

from training.parameters import Augment, Recipe

ELASTIC_GRID = (5, 7)  # rows and columns of places that move by themselves
SLIDERS = 4  # gains over the depth, as a console's; and as many across
LEAST_CONTRAST = 1e-3  # in deviations: keeps the division finite where a frame is all one grey


def augment(frame: np.ndarray, masks: np.ndarray, strength: Augment, rng: np.random.Generator):
    """One frame and its masks after the same random move; the frame's greys change too, the masks' never.

    frame: float32 (height, width), normalised. masks: uint8 or float32 (height, width, C), 0..1.
    Gives back both in the same shapes and types.
    """
    height, width = frame.shape
    back = cv2.invertAffineTransform(_move(height, width, strength, rng)).astype(np.float32)
    # What the move brings in from outside is as black as the frame gets, and no nerve.
    black = float(frame.min())
    if strength.elastic:
        columns, rows = _pressed(back, height, width, strength.elastic, rng)
        frame = cv2.remap(frame, columns, rows, cv2.INTER_LINEAR, borderValue=black)
        masks = cv2.remap(masks, columns, rows, cv2.INTER_NEAREST).reshape(masks.shape)
    else:  # the same in half the time
        linear, nearest = (cv2.WARP_INVERSE_MAP | way for way in (cv2.INTER_LINEAR, cv2.INTER_NEAREST))
        frame = cv2.warpAffine(frame, back, (width, height), flags=linear, borderValue=black)
        masks = cv2.warpAffine(masks, back, (width, height), flags=nearest).reshape(masks.shape)
    return _regrade(_rescan(frame, strength, rng), strength, rng), masks


def _pressed(
    back: np.ndarray, height: int, width: int, elastic: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the moved frame comes from: its column and its row, float32 (height, width) each.

    The move of the whole frame, and what a probe's pressure does to tissue: smooth moves that differ from place to
    place. back: float32 (2, 3), from the moved frame's pixels to the frame's.
    """
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, np.newaxis]
    columns, rows = (one * x + other * y + shift for one, other, shift in back)
    columns += elastic * width * _smooth(ELASTIC_GRID, height, width, rng)
    rows += elastic * height * _smooth(ELASTIC_GRID, height, width, rng)
    return columns, rows


def _move(height: int, width: int, strength: Augment, rng: np.random.Generator) -> np.ndarray:
    """A random shift, zoom, rotation and left-right flip about the frame's centre: float64 (2, 3)."""
    zoom_x, zoom_y = np.exp(rng.uniform(-strength.zoom, strength.zoom, 2))
    angle = math.radians(rng.uniform(-strength.rotate, strength.rotate))
    mirror = rng.choice((-1.0, 1.0))
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos * zoom_x * mirror, -sin * zoom_y], [sin * zoom_x * mirror, cos * zoom_y]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])  # of the pixels' centres
    shift = rng.uniform(-strength.shift, strength.shift, 2) * (width, height)
    return np.column_stack([linear, centre + shift - linear @ centre])


def _smooth(grid: tuple[int, int], height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Normal deviates on a coarse grid, between which it is smooth: float32 (height, width)."""
    return cv2.resize(rng.standard_normal(grid, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _rescan(frame: np.ndarray, strength: Augment, rng: np.random.Generator) -> np.ndarray:
    """The same tissue as another console and another hand would show it: grey curve, gain sliders, shadow, focus.

    frame: float32 (height, width), normalised; changed on a scale from 0, its black, to about 1, its white.
    """
    if not (strength.gamma or strength.sliders or strength.shadow or strength.blur):
        return frame
    height, width = frame.shape
    black = frame.min()
    white = max(np.percentile(frame[::2, ::2], 99.5) - black, LEAST_CONTRAST)  # of a quarter: in half the time
    echo = np.clip((frame - black) / white, 0.0, 1.5)
    if strength.gamma:
        echo **= np.float32(math.exp(rng.uniform(-strength.gamma, strength.gamma)))
    if strength.sliders:
        echo *= np.exp(strength.sliders * _smooth((SLIDERS, 1), height, 1, rng))
        echo *= np.exp(strength.sliders / 2 * _smooth((1, SLIDERS), 1, width, rng))
    if rng.random() < strength.shadow:
        echo *= _shadow(height, width, rng)
    if strength.blur and rng.random() < 0.5:
        echo = cv2.GaussianBlur(echo, (0, 0), rng.uniform(0.2, strength.blur))
    return echo * np.float32(white) + black


def _shadow(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """What bone, gas or a bad contact leave of the echoes behind it, 0..1: float32 (height, width)."""
    middle, half_width = rng.uniform(0, width), rng.uniform(0.03, 0.15) * width
    top, soft_px = rng.uniform(0, 0.5) * height, 4
    across = np.exp(-(((np.arange(width, dtype=np.float32) - middle) / half_width) ** 2))
    down = 1 / (1 + np.exp((top - np.arange(height, dtype=np.float32)) / soft_px))
    return 1 - np.float32(rng.uniform(0.3, 0.95)) * down[:, np.newaxis] * across


def _regrade(frame: np.ndarray, strength: Augment, rng: np.random.Generator) -> np.ndarray:
    """Another console's contrast and brightness, and fresh noise that grows with the echo as speckle's does."""
    contrast = math.exp(rng.uniform(-strength.gain, strength.gain))
    brightness = rng.uniform(-strength.gain, strength.gain)
    # Uniform, of the same deviation as normal deviates, and of 8 bits: random floats take most of a light net's time.
    noise = np.frombuffer(rng.bytes(frame.size), np.uint8).reshape(frame.shape).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(strength.speckle * contrast * 12**0.5 / 256)
    noise += np.float32(contrast)
    black = frame.min()
    echo = frame - black
    echo *= noise
    echo += np.float32(black * contrast + brightness)
    return echo


class Shuffled(keras.utils.PyDataset):
    """Frames, float32 (N, height, width), normalised, in an order of its own for each epoch; the same for the same seed
    whatever thread makes a batch of them."""

    def __init__(self, frames: np.ndarray, recipe: Recipe, seed: int):
        super().__init__(workers=2, max_queue_size=8)
        self.frames, self.recipe, self.seed = frames, recipe, seed
        self.epoch = 0
        self.order = self._order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.recipe.batch)

    def batch(self, index: int) -> tuple[np.ndarray, np.random.Generator]:
        """Which frames are in a batch, int (B,), and its own chance."""
        start = index * self.recipe.batch
        return self.order[start : start + self.recipe.batch], np.random.default_rng((self.seed, self.epoch, index))

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.order = self._order()

    def _order(self) -> np.ndarray:
        """The frames of this epoch: shuffled, and over again until its steps are filled."""
        rng = np.random.default_rng((self.seed, self.epoch))
        wanted = self.recipe.steps * self.recipe.batch if self.recipe.steps else len(self.frames)
        rounds = math.ceil(wanted / len(self.frames))
        return np.concatenate([rng.permutation(len(self.frames)) for _ in range(rounds)])[:wanted]


class Batches(Shuffled):
    """Batches of training frames, moved and changed.

    masks: uint8 or float32 (N, height, width, C), 0..1: nerve, then vessel.
    A batch is (float32 (B, height, width, 1), targets by head); see `targets`.
    """

    def __init__(self, frames: np.ndarray, masks: np.ndarray, recipe: Recipe, heads: list[str], seed: int):
        super().__init__(frames, recipe, seed)
        self.masks, self.heads = masks, heads

    def __getitem__(self, index: int):
        chosen, rng = self.batch(index)
        frames, masks = self.frames[chosen], self.masks[chosen]
        if self.recipe.augment is not None:
            moved = [augment(f, m, self.recipe.augment, rng) for f, m in zip(frames, masks, strict=True)]
            frames, masks = (np.stack(arrays) for arrays in zip(*moved, strict=True))
        return frames[..., np.newaxis], targets(masks, self.heads)


def targets(masks: np.ndarray, heads: list[str]) -> dict[str, np.ndarray]:
    """What each head ought to answer, float32, from masks (B, height, width, C), 0..1: nerve, then vessel.

    A frame shows a nerve as far as its moved mask still does.
    """
    drawn = masks.astype(np.float32)
    nerve = drawn[..., :1]
    others = {"presence": np.rint(nerve.max(axis=(1, 2))), "vessel": drawn[..., 1:2]}
    return {head: others.get(head, nerve) for head in heads}
