"""Stage refit: write the model to serve: the evaluated champion, or a refit of its recipe on all labelled frames.

For a source in `nerve.refit`, the stage trains the champion's recipe again from initial weights, on the training,
validation and test frames together. Frames with contradictory masks are left out. The reported metrics belong to the
model evaluated before the refit: the refit was trained on the validation and test frames, so its Dice there only shows
whether its training failed.

Writes to models/refit
  unet.keras, unet.onnx, input.json   as train_unet writes them
  run.json                            version and run_id of the model to serve; empty if MLflow does not have its run
The model becomes a version of "nerve-unet" in MLflow's registry, with the alias "champion".
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from pydantic import TypeAdapter

from service.model.card import NetworkInput
from training.data.prepared_arrays import FrameArrays, read_arrays, write_arrays
from training.evaluation.inference import open_network
from training.release.model_registry import register_model
from training.release.served_model_dice_check import check_test_dice
from training.release.served_model_frames import served_model_rows
from training.workspace import nerve_parameters, paths, tracking
from training.workspace.nerve_parameters import Candidate
from training.workspace.output_checksums import check_outputs, output_folder

if TYPE_CHECKING:
    import keras

FILES = ("unet.keras", "unet.onnx", "input.json")


def refit_recipe(candidate: Candidate, history: pd.DataFrame) -> Candidate:
    """Return the candidate without early stopping, and with the heads that the evaluated model trained.

    The evaluated model has no presence head if its training frames were alike in presence. The refit then has none
    either, because the postprocessing was fitted to the evaluated model.

    history: of the evaluated model.
    """
    heads = [head for head in candidate.net.heads if head != "presence" or "presence_loss" in history]
    recipe = candidate.recipe.model_copy(update={"patience": None})
    return candidate.model_copy(update={"net": candidate.net.model_copy(update={"heads": heads}), "recipe": recipe})


def train_on_all_frames(candidate: Candidate, evaluated: Path, seed: int, scratch: Path) -> "keras.Model":
    """Train the candidate on all labelled frames for all its epochs; log the metrics of each epoch to the active run.

    evaluated: the evaluated model's folder.
    scratch: a folder for the prepared frames; this function removes it.
    """
    from training.fitting.trainer import train
    from training.workspace.keras_callbacks import MlflowMetrics, ProgressBar

    history = pd.read_csv(evaluated / "history.csv")
    network_input = TypeAdapter(NetworkInput).validate_json((evaluated / "input.json").read_bytes())
    write_arrays(scratch, served_model_rows(), network_input)
    arrays = read_arrays(scratch)
    # The trainer requires validation frames. One is enough, because nothing depends on it.
    splits = {"train": arrays, "validation": FrameArrays(arrays.frames[:1], arrays.masks[:1])}
    bar = ProgressBar(f"{evaluated.name}, refit", candidate.recipe.epochs, {})
    model = train(refit_recipe(candidate, history), splits, seed, [bar, MlflowMetrics(None)])[0]
    shutil.rmtree(scratch)
    return model


def refit(name: str, evaluation: dict[str, Any], folder: Path) -> None:
    """Refit a candidate and write FILES to `folder`.

    Logs an MLflow run of its own, with the evaluated model's run in the tag `evaluated_run`.

    evaluation: metrics.json of the evaluated model.

    Raises ServedModelDiceError.
    """
    from training.models.onnx_export import export_onnx

    nerve, candidate = nerve_parameters.read_nerve_parameters(), nerve_parameters.read_candidate(name)
    evaluated = paths.UNETS / name
    tracking.use_experiment()
    evaluated_run = tracking.find_run(evaluated / "unet.onnx")
    tags = tracking.run_tags(nerve.source) | {"evaluated_run": evaluated_run.info.run_id if evaluated_run else ""}
    with mlflow.start_run(run_name=f"{name}, refit", tags=tags):
        mlflow.log_params(tracking.flatten(candidate.model_dump()))
        model = train_on_all_frames(candidate, evaluated, nerve.seed, folder / "frames")
        model.save(folder / "unet.keras")
        export_onnx(model, folder / "unet.onnx")
        shutil.copy(evaluated / "input.json", folder)
        test_dice = check_test_dice(open_network(folder, evaluation["tta"]), evaluation)
        mlflow.log_metric("refit_test_dice", test_dice)
        tracking.log_unet(model, folder)


def main() -> None:
    check_outputs(paths.CANDIDATES)
    champion = json.loads(paths.CHAMPION.read_text())
    name, refits = champion["candidate"], nerve_parameters.read_nerve_parameters().refits
    check_outputs(paths.FRAMES, paths.SPLIT, paths.UNETS / name)
    with output_folder(paths.REFIT) as folder:
        if refits:
            refit(name, champion["candidates"][name], folder)
        else:
            for file in FILES:
                shutil.copy(paths.UNETS / name / file, folder)
        version = register_model(folder / "unet.onnx", name)
        (folder / paths.REFIT_RUN.name).write_text(json.dumps(version, indent=2) + "\n")
    print(f"{paths.REFIT}: {name}, {'a refit on all labelled frames' if refits else 'the evaluated model'}")


if __name__ == "__main__":
    main()
