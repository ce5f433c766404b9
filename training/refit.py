"""Stage refit: what is served. The champion as it was judged, or trained once more on every labelled frame.

For a source in `nerve.refit` the champion's recipe is followed anew, from its start, on the frames of training,
validation and test together: nothing is chosen any more, and every frame is of use. Its figures stay those of the net
that was judged, which had not seen validation and test: on frames that it has learnt, a net only shows whether its
training went wrong. Frames that contradict another, wherever it stands, are left out.

Writes to models/refit
  unet.keras, unet.onnx, input.json   as train_unet writes them
  run.json     version and run_id of what is served; both empty where MLflow does not know it
In MLflow's registry it becomes a version of "nerve-unet" with the alias "champion".
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter

from service.card import Decision, Input
from training import parameters, tracking
from training.champion import CHAMPION
from training.evaluate import open_network
from training.parameters import Candidate
from training.precision import dices
from training.prepare import read_side, write_side
from training.quiet import import_tensorflow
from training.sources.layout import Row
from training.split import rows_of, without_contradictions
from training.train_unet import UNETS, export, train
from training.whole import whole

if TYPE_CHECKING:
    import keras

FOLDER = Path("models/refit")
RUN = FOLDER / "run.json"
ALIAS = "champion"
FILES = ("unet.keras", "unet.onnx", "input.json")
SIDES = ("train", "validation", "test")


class WorseError(Exception):
    """Trained once more, the net does worse on frames that it has learnt than before; the message says by how much."""


def learnt(refit: bool) -> list[Row]:
    """The rows of the frames that what is served has learnt."""
    return without_contradictions([row for side in SIDES for row in rows_of(side)]) if refit else rows_of("train")


def train_on_all(candidate: Candidate, judged: Path, seed: int) -> "keras.Model":
    """The net of a recipe trained on every labelled frame, for as long as it was of use to the net that was judged.

    judged: that net's folder.
    """
    from training.watch import Progress

    history = pd.read_csv(judged / "history.csv")
    epochs = int(history["val_mask_dice"].to_numpy().argmax()) + 1 if candidate.recipe.patience else len(history)
    network = TypeAdapter(Input).validate_json((judged / "input.json").read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "every frame"
        write_side(frames, learnt(refit=True), network, candidate.input)
        every = read_side(frames)
        # Keras wants frames to look at after an epoch; nothing follows from them.
        bar = Progress(f"{judged.name}, on every frame", epochs, {})
        return train(as_judged(candidate, history), {"train": every, "validation": every}, seed, [bar], epochs)[0]


def as_judged(candidate: Candidate, history: pd.DataFrame) -> Candidate:
    """The candidate to the end of its epochs, and with presence read off the mask where the judged net's was, by whose
    decision it is served: among all frames there may be the first without a nerve. history: of the judged net."""
    heads = [head for head in candidate.net.heads if head != "presence" or "presence_loss" in history]
    recipe = candidate.recipe.model_copy(update={"patience": None})
    return candidate.model_copy(update={"net": candidate.net.model_copy(update={"heads": heads}), "recipe": recipe})


def check(folder: Path, judged: dict[str, Any]) -> float:
    """Mean Dice on the test split of the net of `folder`, which has learnt it: what a training that went wrong has not.

    judged: the champion's metrics.json. Raises WorseError below the interval of the net that had not learnt the split.
    """
    decision = TypeAdapter(Decision).validate_json(json.dumps(judged["decision"]))
    reached = float(dices(open_network(folder, judged["mirrored"]), decision, rows_of("test"), "frames learnt").mean())
    if reached < judged["test"]["dice_low"]:
        raise WorseError(
            f"trained on every frame, the net has a Dice of {reached:.3f} on those of the test split; before it had "
            f"learnt them, {judged['test']['dice']} ({judged['test']['dice_low']} to {judged['test']['dice_high']}). "
            "It is not served: choose another nerve.seed, or take the source out of nerve.refit"
        )
    return reached


def register(network: Path, candidate: str) -> dict[str, str]:
    """The network's version in the registry, which gets the alias; made if these weights have none yet.

    Gives back version and run_id, both empty where the store does not know the run.
    """
    import mlflow
    from mlflow import MlflowClient

    tracking.store()
    run = tracking.run_of(network)
    if run is None:
        return {"version": "", "run_id": ""}
    client = MlflowClient()
    digest = run.data.tags["weights"]
    known = client.search_model_versions(f"name = '{tracking.MODEL}'")
    version = next((v.version for v in known if v.tags.get("weights") == digest), None)
    if version is None:
        made_by = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
        tags = {"weights": digest, "candidate": candidate}
        version = mlflow.register_model(f"models:/{made_by[0].model_id}", tracking.MODEL, tags=tags).version
    client.set_registered_model_alias(tracking.MODEL, ALIAS, version)
    return {"version": str(version), "run_id": run.info.run_id}


def log_run(name: str, candidate: Candidate, model: "keras.Model", folder: Path, reached: float) -> None:
    """A run of its own in MLflow, which names the one that was judged. reached: what `check` tells."""
    import mlflow

    tracking.store()
    judge = tracking.run_of(UNETS / name / "unet.onnx")
    tags = tracking.tags(parameters.nerve().source) | {"judged": judge.info.run_id if judge else ""}
    with mlflow.start_run(run_name=f"{name}, on every frame", tags=tags):
        mlflow.log_params(tracking.flat(candidate.model_dump()))
        mlflow.log_metric("learnt_dice", reached)
        tracking.log_model(model, folder)


def main() -> None:
    champion = json.loads(CHAMPION.read_text())
    name = champion["candidate"]
    nerve, candidate, judged = parameters.nerve(), parameters.candidate(name), UNETS / name
    with whole(FOLDER) as folder:
        if nerve.refits:
            import_tensorflow()
            model = train_on_all(candidate, judged, nerve.seed)
            model.save(folder / "unet.keras")
            export(model, folder / "unet.onnx")
            shutil.copy(judged / "input.json", folder)
            try:
                reached = check(folder, champion["race"][name])
            except WorseError as fault:
                sys.exit(f"refit: {fault}")
            log_run(name, candidate, model, folder, reached)
        else:
            for file in FILES:
                shutil.copy(judged / file, folder)
        (folder / RUN.name).write_text(json.dumps(register(folder / "unet.onnx", name), indent=2) + "\n")
    print(f"{FOLDER}: {name}, {'trained on every frame' if nerve.refits else 'as it was judged'}")


if __name__ == "__main__":
    main()
