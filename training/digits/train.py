"""Stage train_digits: train one of `digits.nets` on MNIST, test it, and log its run to MLflow.

`python -m training.digits.train NET` writes
  models/digits/NET/   net.keras; history.csv: loss, accuracy, test_loss, test_accuracy, learning_rate by epoch
  reports/digits/NET/  metrics.json; predictions.csv: truth, prediction, probability of each test digit;
                       confusion.png; mistakes.png
"""

import json
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from training.data.sources.mnist import Digits, read_digits
from training.workspace import digits_parameters, paths, tracking
from training.workspace.output_checksums import output_folder
from training.workspace.tensorflow_import import import_tensorflow

EXPERIMENT = "digits"
MISTAKES_SHOWN = 40


def prediction_table(probabilities: np.ndarray, digits: Digits) -> pd.DataFrame:
    """Return each digit's truth, its most probable class and its probability, from probabilities float (N, 10)."""
    return pd.DataFrame(
        {"truth": digits.labels, "prediction": probabilities.argmax(axis=1), "probability": probabilities.max(axis=1)}
    ).rename_axis("digit")


def confusion_figure(predictions: pd.DataFrame) -> Figure:
    """Return the confusion matrix: true digits in rows, predictions in columns. Only the mistakes are coloured."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    counts = confusion_matrix(predictions["truth"], predictions["prediction"], labels=range(10))
    correct = np.eye(10, dtype=bool)
    mistakes = counts[~correct]
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axis = figure.subplots()
    ConfusionMatrixDisplay(counts).plot(ax=axis, cmap="Oranges", colorbar=False)
    axis.images[0].set_clim(0, max(1, mistakes.max()))
    axis.images[0].set_data(np.where(correct, 0, counts))
    for text in axis.texts:
        text.set_color("black")
    axis.set_title(f"{mistakes.sum()} of {counts.sum()} wrong")
    return figure


def mistakes_figure(predictions: pd.DataFrame, digits: Digits) -> Figure:
    """Return the misclassified digits with truth, prediction and probability, the most probable prediction first."""
    mistakes = predictions[predictions["truth"] != predictions["prediction"]]
    mistakes = mistakes.sort_values("probability", ascending=False)
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    figure.suptitle(f"{len(mistakes)} wrong, most confident first: truth -> prediction, probability")
    for axis in figure.subplots(5, MISTAKES_SHOWN // 5).flat:
        axis.set_axis_off()
    for axis, image, row in zip(figure.axes, digits.images[mistakes.index], mistakes.itertuples(), strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(f"{row.truth} -> {row.prediction}, {row.probability:.3f}", fontsize=8)
    return figure


def write_report(folder: Path, predictions: pd.DataFrame, digits: Digits) -> dict[str, float]:
    """Write predictions and pictures to `folder`; returns test_accuracy and test_wrong, the number of mistakes."""
    predictions.to_csv(folder / "predictions.csv")
    figures = {"confusion": confusion_figure(predictions), "mistakes": mistakes_figure(predictions, digits)}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=90, metadata={"Software": None})
    correct = predictions["truth"] == predictions["prediction"]
    return {"test_accuracy": float(correct.mean()), "test_wrong": int((~correct).sum())}


def main(name: str) -> None:
    import_tensorflow()
    from training.digits import nets
    from training.workspace.keras_callbacks import MlflowMetrics, ProgressBar

    digits = digits_parameters.read_digits_parameters()
    net = digits.net(name)
    training, test = read_digits(paths.MNIST)
    images, _ = test.tensors()
    tracking.use_experiment(EXPERIMENT)
    data = paths.MNIST.as_posix()
    tags = tracking.run_tags("mnist", data) | {"net": name}
    with (
        output_folder(paths.DIGIT_NETS / name) as model_folder,
        output_folder(paths.DIGITS / name) as report_folder,
        mlflow.start_run(run_name=name, description=net.about, tags=tags),
    ):
        mlflow.log_params(tracking.flatten(net.model_dump(exclude={"about"})) | {"seed": digits.seed})
        splits = {"train": (training.images, training.labels), "test": (test.images, test.labels)}
        tracking.log_datasets(splits, data)
        bar = ProgressBar(name, net.epochs, {"accuracy": "accuracy", "test": "val_accuracy"})
        start = time.monotonic()
        model, history = nets.train(net, training, test, digits.seed, [bar, MlflowMetrics("test")])
        minutes = (time.monotonic() - start) / 60
        probabilities = model.predict(images, nets.TEST_BATCH_SIZE, verbose=0)
        model.save(model_folder / "net.keras")
        history.to_csv(model_folder / "history.csv", index_label="epoch")
        metrics = write_report(report_folder, prediction_table(probabilities, test), test)
        metrics |= {"weights": model.count_params(), "minutes": round(minutes, 2)}
        (report_folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
        mlflow.log_metrics(metrics, step=len(history))  # the step after the last epoch's
        mlflow.log_artifacts(str(report_folder))
        tracking.log_keras_model(model, "net", mlflow.models.infer_signature(images[:1], probabilities[:1]))


if __name__ == "__main__":
    main(sys.argv[1])
