"""Stage refit: what is served. The champion as it was judged, or its recipe trained anew on every labelled frame.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter

from service.card import Input
from training import parameters, tracking
from training.champion import CHAMPION
from training.evaluate import Network, decision_of, dices, open_network
from training.parameters import Candidate
from training.prepare import read_side, write_side
from training.quiet import import_tensorflow
from training.scores import interval
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
SHORT = 0.05  # of Dice: more than another seed takes (docs/accuracy.md)


class WorseError(SystemExit):
    """What was trained on every frame is worse than what was judged. It ends the stage, and is all it says."""


def learnt() -> list[Row]:
    """The rows of the frames that what is served has learnt."""
    if not parameters.nerve().learns_all:
        return rows_of("train")
    return without_contradictions([row for side in SIDES for row in rows_of(side)])


def train_on_all(candidate: Candidate, judged: Path, seed: int, scratch: Path) -> "keras.Model":
    """The net of a recipe trained on every labelled frame, to the end of its epochs: none is left to tell when to stop.
    Its curves go to the active run.

    judged: the judged net's folder. scratch: a folder for the prepared frames, gone afterwards.
    """
    from training.watch import Curves, Progress

    history = pd.read_csv(judged / "history.csv")
    network = TypeAdapter(Input).validate_json((judged / "input.json").read_bytes())
    write_side(scratch, learnt(), network, candidate.input)
    frames, labels = read_side(scratch)
    # Keras wants frames to look at after an epoch: one will do, as nothing follows from it.
    sides = {"train": (frames, labels), "validation": (frames[:1], labels[:1])}
    bar = Progress(f"{judged.name}, on every frame", candidate.recipe.epochs, {})
    model = train(as_judged(candidate, history), sides, seed, [bar, Curves(None)])[0]
    shutil.rmtree(scratch)
    return model


def as_judged(candidate: Candidate, history: pd.DataFrame) -> Candidate:
    """The candidate to the end of its epochs, and with presence read off the mask where the judged net's was, by whose
    decision it is served: among all frames there may be the first without a nerve. history: of the judged net."""
    heads = [head for head in candidate.net.heads if head != "presence" or "presence_loss" in history]
    recipe = candidate.recipe.model_copy(update={"patience": None})
    return candidate.model_copy(update={"net": candidate.net.model_copy(update={"heads": heads}), "recipe": recipe})


def check(network: Network, figures: dict[str, Any]) -> float:
    """Mean Dice on the test split of what is to be served; on frames that it has learnt, only a fault makes it low.

    figures: metrics.json of the net that was judged. Raises WorseError SHORT below what that had.
    """
    reached = float(dices(network, decision_of(figures), rows_of("test"), "what is served").mean())
    if reached < figures["test"]["dice"] - SHORT:
        raise WorseError(
            f"What is to be served has a Dice of {reached:.3f} on the test split, and the net that was judged had "
            f"{interval(figures['test'], 'dice')}: it is not served. Leave the source out of nerve.refit, and the "
            "judged net is; with another nerve.seed all candidates are trained again"
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


def refitted(name: str, figures: dict[str, Any], folder: Path) -> None:
    """What is served of a candidate, trained on every frame, into `folder`; a run of its own in MLflow, which names the
    one that was judged. figures: metrics.json of that. Raises WorseError."""
    import_tensorflow()
    import mlflow

    nerve, candidate, judged = parameters.nerve(), parameters.candidate(name), UNETS / name
    tracking.store()
    judge = tracking.run_of(judged / "unet.onnx")
    tags = tracking.tags(nerve.source) | {"judged": judge.info.run_id if judge else ""}
    with mlflow.start_run(run_name=f"{name}, on every frame", tags=tags):
        mlflow.log_params(tracking.flat(candidate.model_dump()))
        model = train_on_all(candidate, judged, nerve.seed, folder / "frames")
        model.save(folder / "unet.keras")
        export(model, folder / "unet.onnx")
        shutil.copy(judged / "input.json", folder)
        mlflow.log_metric("learnt_dice", check(open_network(folder, figures["mirrored"]), figures))
        tracking.log_model(model, folder)


def main() -> None:
    champion = json.loads(CHAMPION.read_text())
    name, anew = champion["candidate"], parameters.nerve().learns_all
    with whole(FOLDER) as folder:
        if anew:
            refitted(name, champion["race"][name], folder)
        else:
            for file in FILES:
                shutil.copy(UNETS / name / file, folder)
        (folder / RUN.name).write_text(json.dumps(register(folder / "unet.onnx", name), indent=2) + "\n")
    print(f"{FOLDER}: {name}, {'trained on every frame' if anew else 'as it was judged'}")


if __name__ == "__main__":
    main()
