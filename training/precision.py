"""What a CPU computes in when it serves: the quickest precision whose masks are as good as the trained net's.

The float32 network must answer as Keras does, nearly bit by bit, or the export is broken. A lower precision moves
probabilities a little, so it is held against the truth: over validation, its mean Dice may differ by MOST_DICE.
"""

import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from service.card import NETWORK, NETWORKS, Card, Decision, Input, Precision
from service.runtime import Mirrored, Runtime, on_cpu
from service.segmenter import decide, probabilities
from training.evaluate import Network, in_order
from training.metrics import dice
from training.prepare import PREPARED
from training.quiet import import_tensorflow
from training.sources.layout import FRAMES, NERVE, Row, read_frame, read_labels
from training.split import rows_of

INT8 = NETWORKS["int8"]
HELD_AGAINST = 200  # frames of a split, at the most
CALIBRATED_BY = 200  # training frames
TIMED = 40  # answers of each precision, in turns
MOST_DIFFERENCE = 1e-3  # of a probability, float32 against Keras
MOST_CHANGED = 1e-4  # share of the mask's pixels, float32 against Keras
MOST_DICE = 0.002


class NotTheSameError(Exception):
    """The exported network answers otherwise than the trained one; the message says by how much."""


class InKeras:
    """The Keras net of a candidate's folder, in float32, as a runtime."""

    device = "Keras"

    def __init__(self, folder: Path):
        import_tensorflow()
        import keras

        self.model = keras.models.load_model(folder / "unet.keras", compile=False)

    def __call__(self, batch: np.ndarray, alone: bool = True) -> tuple[np.ndarray, np.ndarray]:
        answer = self.model(batch, training=False)
        return np.asarray(answer["mask"]), np.asarray(answer["presence"]).reshape(-1)


def check_export(trained: Network, served: Network, rows: list[Row], decision: Decision) -> dict[str, float]:
    """The float32 network against Keras: largest difference of a probability, share of mask pixels that change.

    Raises NotTheSameError above MOST_DIFFERENCE or MOST_CHANGED.
    """

    def apart(row: Row) -> tuple[float, float]:
        frame = read_frame(FRAMES, row)
        (mask, presence), (other, other_presence) = trained(frame), served(frame)
        changed = decide(mask, presence, decision) != decide(other, other_presence, decision)
        return max(float(np.abs(mask - other).max()), abs(presence - other_presence)), float(changed.mean())

    differences, shares = zip(*in_order(apart, rows, "float32 against Keras"), strict=True)
    difference, share = max(differences), statistics.fmean(shares)
    if difference > MOST_DIFFERENCE or share > MOST_CHANGED:
        raise NotTheSameError(
            f"{NETWORK} is not unet.keras: probabilities differ by {difference:.2e} (at most {MOST_DIFFERENCE}), "
            f"{share:.2e} of the mask's pixels (at most {MOST_CHANGED})"
        )
    return {"largest_difference": round(difference, 7), "changed_pixels": round(share, 8)}


def quantise(folder: Path, frames: np.ndarray) -> None:
    """Write the network of `folder` anew with 8-bit weights and activations, as unet.int8.xml.

    frames: float32 (N, height, width), normalised: what the ranges of the activations are read off.
    """
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    network = openvino.Core().read_model(folder / NETWORK)
    calibration = nncf.Dataset(frames, lambda frame: {"frame": np.asarray(frame)[np.newaxis, ..., np.newaxis]})
    openvino.save_model(nncf.quantize(network, calibration, subset_size=len(frames)), folder / INT8)


def mean_dice(network: Network, decision: Decision, rows: list[Row], title: str) -> float:
    """Of the masks that the service would answer, at the frames' own resolution."""

    def of(row: Row) -> float:
        return dice(decide(*network(read_frame(FRAMES, row)), decision) > 0, read_labels(FRAMES, row) == NERVE)

    return statistics.fmean(in_order(of, rows, title))


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


def choose(folder: Path, card: Card) -> tuple[Precision, dict[str, Any]]:
    """The precision to serve `folder` in, and the figures of all; leaves unet.int8.xml there where int8 is chosen.

    Chosen on validation; what the choice costs on the test split is reported, and nothing follows from it. Of `card`,
    the precision is not looked at.
    Raises NotTheSameError where the export itself is broken.
    """

    def as_asked(runtime: Runtime) -> Runtime:
        return Mirrored(runtime) if card.mirrored else runtime

    prepared = np.load(PREPARED / card.candidate / "train" / "frames.npy", mmap_mode="r")
    quantise(folder, prepared[:: -(-len(prepared) // CALIBRATED_BY)])
    runtimes: dict[Precision, Runtime] = {name: as_asked(on_cpu(folder, name)) for name in get_args(Precision)}
    networks = {name: partial(probabilities, runtime, card.input) for name, runtime in runtimes.items()}
    trained, decision = partial(probabilities, as_asked(InKeras(folder)), card.input), card.decision
    validation, test = some(rows_of("validation")), some(rows_of("test"))
    figures: dict[str, Any] = check_export(trained, networks["float32"], test, decision)
    reached = mean_dice(trained, decision, validation, "Keras")
    took = milliseconds(runtimes, card.input)
    lost = {name: mean_dice(network, decision, validation, name) - reached for name, network in networks.items()}
    as_good = [precision for precision in lost if abs(lost[precision]) <= MOST_DICE]
    chosen: Precision = min(as_good, key=lambda precision: took[precision]) if as_good else "float32"
    if chosen != "int8":
        for file in (INT8, INT8.replace(".xml", ".bin")):
            (folder / file).unlink()
    figures["precisions"] = {
        name: {"milliseconds": took[name], "validation_dice_change": round(lost[name], 5)} for name in lost
    }
    on_test = mean_dice(networks[chosen], decision, test, "test") - mean_dice(trained, decision, test, "test, Keras")
    return chosen, figures | {"test_dice_change": round(on_test, 5)}
