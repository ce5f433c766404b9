"""Stage package: the champion as the folder that the service reads, and as a Bento.

Writes models/champion (unet.onnx, unet.keras, known frames with their masks, card.json) and models/nervemask.bento.
The network is held against the Keras original on held-out frames first: what is served is what was trained, or the
stage fails.
"""

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.card import Card, Decision, Input, Normalisation, Spread, TrainedOn, Usual
from service.drift import intensity
from service.known import write_known
from service.runtime import open_runtime
from service.segmenter import Segmenter, decide
from service.tensor import to_frame, to_tensor
from training import tracking
from training.champion import CHAMPION
from training.quiet import import_tensorflow
from training.sources import phantom
from training.sources.layout import FRAMES, Row, read_frame
from training.split import rows_of
from training.train_unet import UNETS
from training.whole import whole

FOLDER = Path("models/champion")
BENTO = Path("models/nervemask.bento")
HELD_AGAINST = 40  # frames
LOOKED_AT = 500  # frames of a split, for what they are usually like
KNOWN_SEED, KNOWN = 2018, ((1, 1), (1, 2), (2, 1), (2, 2))  # subjects and numbers of the phantom, two with a nerve
MOST_DIFFERENCE = 1e-3  # of a probability
MOST_CHANGED = 1e-4  # share of the mask's pixels


class NotTheSameError(Exception):
    """The exported network answers otherwise than the trained one; the message says by how much."""


def parity(folder: Path, network: Input, decision: Decision) -> dict[str, float]:
    """The exported network against the Keras original on held-out frames: largest difference of a probability, and
    the share of mask pixels that change, at the frames' own resolution.

    Raises NotTheSameError above MOST_DIFFERENCE or MOST_CHANGED.
    """
    import_tensorflow()
    import keras

    model = keras.models.load_model(folder / "unet.keras", compile=False)
    runtime = open_runtime(folder / "unet.onnx")
    difference, changed, pixels = 0.0, 0, 0
    for row in rows_of("test")[:HELD_AGAINST]:
        frame = read_frame(FRAMES, row)
        tensor = to_tensor(frame, network)[np.newaxis]  # (1, H, W, 1)
        ours, ours_presence = runtime(tensor)
        theirs = {head: np.asarray(value) for head, value in model(tensor, training=False).items()}
        apart = (
            np.abs(ours - theirs["mask"]).max(),
            np.abs(ours_presence - theirs["presence"].ravel()).max(),
        )
        difference = max(difference, *map(float, apart))
        masks = [
            decide(to_frame(mask[0, ..., 0], frame.height, frame.width), float(presence.ravel()[0]), decision)
            for mask, presence in ((ours, ours_presence), (theirs["mask"], theirs["presence"]))
        ]
        changed += int(np.count_nonzero(masks[0] != masks[1]))
        pixels += masks[0].size
    share = changed / pixels
    if difference > MOST_DIFFERENCE or share > MOST_CHANGED:
        raise NotTheSameError(
            f"{folder / 'unet.onnx'} is not {folder / 'unet.keras'}: probabilities differ by {difference:.2e} "
            f"(at most {MOST_DIFFERENCE}), {share:.2e} of the mask's pixels (at most {MOST_CHANGED})"
        )
    return {"largest_difference": round(difference, 7), "changed_pixels": round(share, 8)}


def card(champion: dict[str, Any], network: Input) -> Card:
    """Where the champion comes from and what it reached."""
    figures = champion["race"][champion["candidate"]]
    training = rows_of("train")
    commit, dirty = tracking.commit()
    baselines = ("baseline_empty", "baseline_mean_mask")
    return Card(
        name=tracking.MODEL,
        version=champion["version"] or "unregistered",
        candidate=champion["candidate"],
        run_id=champion["run_id"],
        commit=commit,
        dirty=dirty,
        data=figures["data"],
        trained_on=TrainedOn(
            source=training[0].source,
            licence=training[0].licence,
            frames=len(training),
            subjects=len({row.subject for row in training}),
        ),
        input=network,
        decision=Decision(**figures["decision"]),
        metrics={
            split: {k: v for k, v in figures[split].items() if k not in baselines} for split in ("validation", "test")
        },
        baselines={
            split: {k.removeprefix("baseline_"): figures[split][k] for k in baselines}
            for split in ("validation", "test")
        },
    )


def usual(segmenter: Segmenter) -> Usual:
    """What the champion's frames are like: grey values of those it was trained on, answers on those held out."""

    def spread(values: Sequence[float]) -> Spread:
        return Spread(round(float(np.mean(values)), 4), round(float(np.std(values)), 4))

    means, deviations = zip(*(intensity(read_frame(FRAMES, row)) for row in some(rows_of("train"))), strict=True)
    found = [segmenter.segment(read_frame(FRAMES, row)) for row in some(rows_of("test"))]
    confidences = [one.confidence for one in found if one.confidence is not None]
    return Usual(
        intensity_mean=spread(means),
        intensity_deviation=spread(deviations),
        presence_rate=round(len(confidences) / len(found), 4),
        confidence=spread(confidences) if confidences else None,
    )


def some(rows: list[Row]) -> list[Row]:
    """All of them, or LOOKED_AT, evenly spread."""
    return rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]


def build_bento() -> None:
    """models/nervemask.bento: the service, the champion's folder and the locked requirements, without TensorFlow.

    Built in a store of its own: `bentoml import "$PWD/models/nervemask.bento"` brings it into the user's.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["BENTOML_HOME"] = home
        import bentoml

        bento = bentoml.bentos.build_bentofile("deploy/bentofile.yaml", build_ctx=".")
        BENTO.unlink(missing_ok=True)
        bentoml.export_bento(str(bento.tag), str(BENTO.resolve()))


def main() -> None:
    champion = json.loads(CHAMPION.read_text())
    trained = UNETS / champion["candidate"]
    entry = json.loads((trained / "input.json").read_text())
    network = Input(entry["height"], entry["width"], Normalisation(**entry["normalisation"]))
    written = card(champion, network)
    try:
        held = parity(trained, network, written.decision)
    except NotTheSameError as fault:
        sys.exit(str(fault))
    with whole(FOLDER) as folder:
        for file in ("unet.onnx", "unet.keras"):
            shutil.copy(trained / file, folder)
        dataclasses.replace(written, metrics={**written.metrics, "parity": held}).write(folder)
        segmenter = Segmenter(folder)
        known = write_known(folder, segmenter, np.stack([phantom.frame(KNOWN_SEED, *number)[0] for number in KNOWN]))
        dataclasses.replace(segmenter.card, known=known, usual=usual(segmenter)).write(folder)
    build_bento()
    print(
        f"{FOLDER}: {written.candidate}, version {written.version}; "
        f"its probabilities differ from Keras by at most {held['largest_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
