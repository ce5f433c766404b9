"""Stage package: the champion as the folder that the service reads, and as a Bento.

Writes models/champion (unet.onnx, unet.keras, card.json, known frames with their masks; unet.int8.xml and .bin where
8 bits are enough) and models/nervemask.bento. The network is held against the Keras original, and as it is served
against the net that was judged, on the test split: what is served is what was trained, or the stage fails.
"""

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from service.accounts.drift import intensity
from service.card import WORST, Card, Failure, Input, Spread, TrainedOn, Usual
from service.known import write_known
from service.runtime import as_asked, on_cpu
from service.segmenter import probabilities
from training import familiarity, parameters, precision, tracking
from training.champion import CHAMPION
from training.evaluate import REPORTS, decision_of
from training.failures import KINDS
from training.refit import FOLDER as REFIT
from training.refit import RUN, check, learnt
from training.sources import phantom, usgra
from training.sources.layout import FRAMES, licences, read_frame
from training.split import rows_of
from training.train_unet import UNETS
from training.whole import whole

FOLDER = Path("models/champion")
BENTO = Path("models/nervemask.bento")
SHOWN = (phantom.LICENCE, usgra.LICENCE)  # they let a frame be shown to whoever has the model
INTENDED_USE = (
    "Research and teaching: masks of nerves in ultrasound frames like those it was trained on. Not a medical device; "
    "its masks must not guide a needle, a dose or a diagnosis."
)
KNOWN_SEED, KNOWN = 2018, ((1, 1), (1, 2), (2, 1), (2, 2))  # subjects and numbers of the phantom, two with a nerve


def card(champion: dict[str, Any], run: dict[str, str], network: Input) -> Card:
    """Where the champion comes from and what it reached; in float32, until a precision is chosen.

    run: `version` and `run_id` of what is served.
    """
    figures = champion["race"][champion["candidate"]]
    training = learnt()
    commit, dirty = tracking.commit()
    baselines = ("baseline_empty", "baseline_mean_mask")
    return Card(
        name=tracking.MODEL,
        version=run["version"] or "unregistered",
        candidate=champion["candidate"],
        run_id=run["run_id"],
        commit=commit,
        dirty=dirty,
        data=figures["data"],
        trained_on=TrainedOn(
            source=training[0].source,
            licence=licences(training),
            frames=len(training),
            subjects=len({row.subject for row in training} - {usgra.UNRECORDED}) or None,
        ),
        input=network,
        decision=decision_of(figures),
        precision="float32",
        mirrored=figures["mirrored"],
        refit=parameters.nerve().learns_all,
        intended_use=INTENDED_USE,
        method=parameters.candidate(champion["candidate"]).model_dump(),
        groups=figures["groups"],
        failures=failures(champion["candidate"]),
        metrics={
            split: {k: v for k, v in figures[split].items() if k not in baselines} for split in ("validation", "test")
        },
        baselines={
            split: {k.removeprefix("baseline_"): figures[split][k] for k in baselines}
            for split in ("validation", "test")
        },
    )


def failures(candidate: str) -> tuple[Failure, ...]:
    """What went wrong with the judged net's masks of test frames, the most frequent first."""
    scores = pd.read_csv(REPORTS / candidate / "frames.csv", keep_default_na=False)
    counts = scores.loc[scores["split"] == "test", "failure"].value_counts()
    return tuple(Failure(kind, int(counts[kind]), KINDS[kind]) for kind in counts.index if kind in KINDS)


def usual(candidate: str) -> Usual:
    """Grey values of the frames that what is served has learnt, and the judged net's answers on validation."""

    def spread(values: Sequence[float]) -> Spread:
        return Spread(round(float(np.mean(values)), 4), round(float(np.std(values)), 4))

    means, deviations = zip(*(intensity(read_frame(FRAMES, row)) for row in precision.some(learnt())), strict=True)
    scores = pd.read_csv(REPORTS / candidate / "frames.csv")
    found = scores.loc[scores["split"] == "validation", "confidence"]
    confidences = found.dropna().to_list()
    return Usual(
        intensity_mean=spread(means),
        intensity_deviation=spread(deviations),
        presence_rate=round(len(confidences) / len(found), 4),
        confidence=spread(confidences) if confidences else None,
    )


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
    run = json.loads(RUN.read_text())
    candidate = champion["candidate"]
    written = card(champion, run, TypeAdapter(Input).validate_json((REFIT / "input.json").read_bytes()))
    with whole(FOLDER) as folder:
        for file in ("unet.onnx", "unet.keras"):
            shutil.copy(REFIT / file, folder)
        if all(row.licence in SHOWN for row in rows_of("test")):
            shutil.copy(REPORTS / candidate / WORST, folder)
        try:
            held = precision.check_export(folder, written)
        except precision.NotTheSameError as fault:
            sys.exit(f"package: {fault}")
        chosen, figures = precision.choose(UNETS / candidate, written)
        if chosen == "int8":
            precision.quantise(folder, candidate)
        runtime = as_asked(on_cpu(folder, chosen), written.mirrored)
        check(partial(probabilities, runtime, written.input), champion["race"][candidate])
        dataclasses.replace(
            written,
            precision=chosen,
            metrics={**written.metrics, "parity": held | figures},
            familiar=familiarity.learn(precision.some(learnt())),
            usual=usual(candidate),
        ).write(folder)
        write_known(folder, np.stack([phantom.frame(KNOWN_SEED, *number)[0] for number in KNOWN]))
    build_bento()
    print(
        f"{FOLDER}: {written.candidate}, version {written.version}; its probabilities differ from Keras by at most "
        f"{held['float32_largest_difference']:.1e}; served in {chosen}, "
        f"which changed the judged net's test Dice by {figures['test_dice_change']:+.4f}"
    )


if __name__ == "__main__":
    main()
