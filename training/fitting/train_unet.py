"""Stage train_unet: train one candidate, log its MLflow run, export its network.

`python -m training.fitting.train_unet CANDIDATE` writes to models/unets/CANDIDATE:
  unet.keras   the trained network, float32
  unet.onnx    the same network for the service: frame -> mask, presence
  input.json   the network's input, as the stage prepare wrote it
  history.csv  losses, Dice and learning rate of each epoch
"""

import shutil

import mlflow

from training.data.prepared_arrays import read_split_arrays
from training.fitting.trainer import train
from training.fitting.validation_masks import ValidationMasks
from training.models.onnx_export import export_onnx
from training.workspace import nerve_parameters, paths, tracking
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.keras_callbacks import MlflowMetrics, ProgressBar
from training.workspace.output_checksums import check_outputs, output_folder


def main(name: str) -> None:
    candidate, nerve = nerve_parameters.read_candidate(name), nerve_parameters.read_nerve_parameters()
    prepared = paths.PREPARED / name
    check_outputs(prepared)
    splits = read_split_arrays(prepared)
    tracking.use_experiment()
    with (
        output_folder(paths.UNETS / name) as folder,
        mlflow.start_run(run_name=name, tags=tracking.run_tags(nerve.source)),
    ):
        mlflow.log_params(tracking.flatten(candidate.model_dump()))
        tracking.log_datasets(splits, prepared.as_posix())
        progress = ProgressBar(name, candidate.recipe.epochs, {"validation": "val_loss", "Dice": "val_mask_dice"})
        callbacks = [progress, MlflowMetrics(), ValidationMasks(splits["validation"])]
        model, history = train(candidate, splits, nerve.seed, callbacks)
        model.save(folder / "unet.keras")
        export_onnx(model, folder / "unet.onnx")
        history.to_csv(folder / "history.csv", index=False)
        shutil.copy(prepared / "input.json", folder)
        tracking.log_unet(model, folder)


if __name__ == "__main__":
    main(stage_item())
