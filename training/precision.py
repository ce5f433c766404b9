"""What a CPU computes in when it serves: the quickest precision whose masks are as good as the trained net's.

The float32 network must answer as Keras does, nearly bit by bit, or the export is broken. A lower precision moves
probabilities a little, so it is held against the truth: over validation, its mean Dice may fall by MOST_DICE and
the standard error of the fall, which of few frames is the larger.
"""

import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from service.card import NETWORK, NETWORKS, Card, Decision, Input, Precision
from service.decision import decide
from service.runtime import Runtime, as_asked, on_cpu
from service.segmenter import probabilities
from training.evaluate import Network, dices, in_order
from training.prepare import PREPARED
from training.quiet import import_tensorflow
from training.sources.layout import FRAMES, Row, read_frame
from training.split import rows_of

INT8 = NETWORKS["int8"]
HELD_AGAINST = 200  # frames of a split, at the most
CALIBRATED_BY = 200  # training frames
# Share of the convolutions, the first, that stay floating: what they give off ranges the widest, and all others build
# upon it. On real frames that nearly halves what int8 does to probabilities; of the light net's 0.6 ms it costs 0.1.
FLOATING = 0.1
TIMED = 40  # answers of each precision, in turns
MOST_DIFFERENCE = 1e-3  # of a probability, float32 against Keras
MOST_CHANGED = 1e-4  # share of the mask's pixels, float32 against Keras
MOST_DICE = 0.002


class NotTheSameError(Exception):
    """The exported network answers otherwise than the trained one; the message says by how much."""


class InKeras:
    """The Keras net of a candidate's folder, in float32, as a runtime."""

    device = "Keras"
    precision: Precision = "float32"

    def __init__(self, folder: Path):
        import_tensorflow()
        import keras

        self.model = keras.models.load_model(folder / "unet.keras", compile=False)

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        answer = self.model(batch, training=False)
        return np.asarray(answer["mask"]), np.asarray(answer["presence"]).reshape(-1)


def apart(trained: Network, served: Network, rows: list[Row], decision: Decision) -> dict[str, float]:
    """The float32 network against Keras: largest difference of a probability, share of mask pixels that change.

    Raises NotTheSameError above MOST_DIFFERENCE or MOST_CHANGED.
    """

    def of(row: Row) -> tuple[float, float]:
        frame = read_frame(FRAMES, row)
        (mask, presence), (other, other_presence) = trained(frame), served(frame)
        changed = decide(mask, presence, decision) != decide(other, other_presence, decision)
        return max(float(np.abs(mask - other).max()), abs(presence - other_presence)), float(changed.mean())

    differences, shares = zip(*in_order(of, rows, "float32 against Keras"), strict=True)
    difference, share = max(differences), statistics.fmean(shares)
    if difference > MOST_DIFFERENCE or share > MOST_CHANGED:
        raise NotTheSameError(
            f"{NETWORK} is not unet.keras: probabilities differ by {difference:.2e} (at most {MOST_DIFFERENCE}), "
            f"{share:.2e} of the mask's pixels (at most {MOST_CHANGED})"
        )
    return {"float32_largest_difference": round(difference, 7), "float32_changed_pixels": round(share, 8)}


def quantise(folder: Path, candidate: str) -> None:
    """Write the network of `folder` anew with 8-bit weights and activations but in the first convolutions, as
    unet.int8.xml.

    The ranges of the activations are read off the candidate's training frames.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    frames = np.load(PREPARED / candidate / "train" / "frames.npy", mmap_mode="r")
    frames = frames[:: -(-len(frames) // CALIBRATED_BY)]
    network = openvino.Core().read_model(folder / NETWORK)
    calibration = nncf.Dataset(frames, lambda frame: {"frame": np.asarray(frame)[np.newaxis, ..., np.newaxis]})
    convolutions = [op for op in network.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution")]
    floating = round(FLOATING * len(convolutions))
    quantised = nncf.quantize(
        network,
        calibration,
        preset=nncf.QuantizationPreset.MIXED,  # activations need not be as wide below 0 as above
        subset_size=len(frames),
        ignored_scope=nncf.IgnoredScope(names=[op.get_friendly_name() for op in convolutions[:floating]]),
    )
    openvino.save_model(quantised, folder / INT8)


def as_good(change: np.ndarray) -> bool:
    """Whether a change of Dice, float (N,) by frame, is no fall, or one that chance and MOST_DICE explain."""
    return bool(change.mean() + change.std() / len(change) ** 0.5 >= -MOST_DICE)


def milliseconds(runtimes: dict[Precision, Runtime], size: Input) -> dict[Precision, float]:
    """Each runtime's median time of one frame, asked in turns, so that what else the machine does meets all."""
    batch = np.zeros((1, size.height, size.width, 1), np.float32)

    def timed(runtime: Callable[[np.ndarray], Any]) -> float:
        start = time.perf_counter()
        runtime(batch)
        return (time.perf_counter() - start) * 1000

    rounds = [{name: timed(runtime) for name, runtime in runtimes.items()} for _ in range(TIMED)]
    return {name: round(statistics.median(times[name] for times in rounds), 3) for name in runtimes}


def some(rows: list[Row]) -> list[Row]:
    """HELD_AGAINST of them at the most, evenly apart."""
    return [rows[index] for index in np.unique(np.linspace(0, len(rows) - 1, HELD_AGAINST).astype(int))]


def check_export(folder: Path, card: Card) -> dict[str, float]:
    """The float32 network of `folder` against its Keras original, over test frames: largest difference of a
    probability, share of mask pixels that change. Of `card`, the precision is not looked at.

    Raises NotTheSameError above MOST_DIFFERENCE or MOST_CHANGED.
    """
    trained = partial(probabilities, as_asked(InKeras(folder), card.mirrored), card.input)
    served = partial(probabilities, as_asked(on_cpu(folder, "float32"), card.mirrored), card.input)
    return apart(trained, served, some(rows_of("test")), card.decision)


def choose(judged: Path, card: Card) -> tuple[Precision, dict[str, Any]]:
    """The precision to serve a network in, and the figures of all, by the net that was judged.

    Chosen on validation, which that net has not learnt; what the choice costs on the test split is reported, and
    nothing follows from it. judged: its folder. Of `card`, the precision is not looked at.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(judged / NETWORK, folder)
        quantise(folder, card.candidate)
        runtimes = {name: as_asked(on_cpu(folder, name), card.mirrored) for name in get_args(Precision)}
    networks = {name: partial(probabilities, runtime, card.input) for name, runtime in runtimes.items()}
    trained, decision = partial(probabilities, as_asked(InKeras(judged), card.mirrored), card.input), card.decision
    validation, test = some(rows_of("validation")), some(rows_of("test"))
    reached = dices(trained, decision, validation, "Keras")
    took = milliseconds(runtimes, card.input)
    change = {name: dices(network, decision, validation, name) - reached for name, network in networks.items()}
    good = [precision for precision in change if as_good(change[precision])]
    chosen: Precision = min(good, key=lambda precision: took[precision]) if good else "float32"
    on_test = dices(networks[chosen], decision, test, "test") - dices(trained, decision, test, "test, Keras")
    precisions = {
        name: {"milliseconds": took[name], "validation_dice_change": round(float(change[name].mean()), 5)}
        for name in change
    }
    return chosen, {"precisions": precisions, "test_dice_change": round(float(on_test.mean()), 5)}
