"""Stage package: write the model folder that the service reads, and build a Bento from it.

Writes
  models/champion          unet.onnx, unet.keras, card.json, self_test_frames.npy, self_test_masks.PRECISION.npy; for
                           int8 also unet.int8.xml and .bin, for float16 unet.float16.onnx; worst.png if the licence
                           allows it
  models/nervemask.bento

The stage fails if the exported network differs from the Keras network, or if the test Dice of the model to serve is
below the evaluated model's.
"""

import dataclasses
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from service.inference.runtime_selection import open_cpu_runtime
from service.inference.segmenter import predict_probabilities
from service.inference.self_test import write_self_test
from service.inference.tta import with_tta
from service.model.card import WORST_FRAMES_IMAGE, Card, NetworkInput
from training.data.licences import SHOWABLE_LICENCES
from training.data.sources import phantom
from training.data.split_table import rows_of_split
from training.evaluation.out_of_distribution_fit import measure_training_frames
from training.release.bento import build_bento
from training.release.drift_reference import measure_reference_stats
from training.release.export_check import ExportMismatchError, check_export
from training.release.float16_conversion import convert_to_float16
from training.release.int8_quantization import quantize
from training.release.model_card import build_card
from training.release.precision_choice import choose_precisions
from training.release.served_model_dice_check import check_test_dice
from training.release.served_model_frames import sample_rows, served_model_rows
from training.workspace import paths
from training.workspace.atomic_folder import atomic_folder
from training.workspace.output_checksums import check_outputs

SELF_TEST_SEED = 2018
SELF_TEST_FRAMES = ((1, 1), (1, 2), (2, 1), (2, 2))  # subject and number of phantom frames; two show a nerve


def copy_model_files(folder: Path, candidate: str) -> None:
    """Copy the networks, and the image of the worst test frames if their licence allows it."""
    for name in ("unet.onnx", "unet.keras"):
        shutil.copy(paths.REFIT / name, folder)
    if all(row.licence in SHOWABLE_LICENCES for row in rows_of_split("test")):
        shutil.copy(paths.EVALUATION / candidate / WORST_FRAMES_IMAGE, folder)


def complete_card(folder: Path, card: Card, evaluation: dict[str, Any]) -> Card:
    """Check the networks of `folder`, choose their precisions, and return the card with the measurements.

    Writes the 8-bit network to `folder` if the precision on CPUs is int8, the float16 network if it is chosen for GPUs.

    evaluation: metrics.json of the evaluated model.

    Raises ExportMismatchError, ServedModelDiceError.
    """
    parity = check_export(folder, card)
    precision, gpu_precision, precision_metrics = choose_precisions(paths.UNETS / card.candidate, card)
    if precision == "int8":
        quantize(folder, card.candidate)
    if gpu_precision == "float16":
        convert_to_float16(folder)
    runtime = with_tta(open_cpu_runtime(folder, precision), card.tta)
    check_test_dice(partial(predict_probabilities, runtime, card.input), evaluation)
    return dataclasses.replace(
        card,
        precision=precision,
        gpu_precision=gpu_precision,
        metrics={**card.metrics, "parity": parity | precision_metrics},
        out_of_distribution=measure_training_frames(sample_rows(served_model_rows())),
        reference_stats=measure_reference_stats(card.candidate),
    )


def main() -> None:
    check_outputs(paths.CANDIDATES)
    champion = json.loads(paths.CHAMPION.read_text())
    read = [folder / champion["candidate"] for folder in (paths.PREPARED, paths.UNETS, paths.EVALUATION)]
    check_outputs(paths.FRAMES, paths.SPLIT, paths.REFIT, *read)
    run = json.loads(paths.REFIT_RUN.read_text())
    network_input = TypeAdapter(NetworkInput).validate_json((paths.REFIT / "input.json").read_bytes())
    card = build_card(champion, run, network_input)
    with atomic_folder(paths.CHAMPION_FOLDER) as folder:
        copy_model_files(folder, card.candidate)
        try:
            card = complete_card(folder, card, champion["candidates"][card.candidate])
        except ExportMismatchError as error:
            sys.exit(f"package: {error}")
        card.write(folder)
        frames = [phantom.simulate_frame(SELF_TEST_SEED, *frame)[0] for frame in SELF_TEST_FRAMES]
        write_self_test(folder, np.stack(frames))
    build_bento()
    parity = card.metrics["parity"]
    print(
        f"{paths.CHAMPION_FOLDER}: {card.candidate}, version {card.version}. Its probabilities differ from the Keras "
        f"network's by at most {parity['float32_largest_difference']:.1e}. Its precision is {card.precision}, which "
        f"changes the evaluated model's test Dice by {parity['test_dice_change']:+.4f}; on a GPU {card.gpu_precision}."
    )


if __name__ == "__main__":
    main()
