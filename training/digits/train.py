"""Stage train_digits: one of `digits.nets` trained on MNIST and tested, its run logged to MLflow.

`python -m training.digits.train NET` writes
  models/digits/NET/   net.keras; history.csv: loss, accuracy, test_loss, test_accuracy, learning_rate by epoch
  reports/digits/NET/  metrics.json; predictions.csv: truth, prediction, probability of every test digit;
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

from training import parameters, tracking
from training.digits.lesson import REPORTS
from training.quiet import import_tensorflow
from training.sources.mnist import MNIST, Digits, read
from training.whole import whole

EXPERIMENT = "digits"
NETS = Path("models/digits")
SHOWN = 40  # mistakes on a sheet


def predictions(probabilities: np.ndarray, digits: Digits) -> pd.DataFrame:
    """Every digit's truth, its likeliest class and that class's probability, from probabilities float (N, 10)."""
    likeliest = probabilities.argmax(axis=1)
    return pd.DataFrame(
        {"truth": digits.labels, "prediction": likeliest, "probability": probabilities.max(axis=1)}
    ).rename_axis("digit")


def confusion(predicted: pd.DataFrame) -> Figure:
    """How often each digit (rows) was taken for each (columns); what is right is left pale."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    counts = confusion_matrix(predicted["truth"], predicted["prediction"], labels=range(10))
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axis = figure.subplots()
    ConfusionMatrixDisplay(counts).plot(ax=axis, cmap="Oranges", colorbar=False)
    wrong = counts[~np.eye(10, dtype=bool)]
    axis.images[0].set_clim(0, max(1, wrong.max()))
    axis.images[0].set_data(np.where(np.eye(10, dtype=bool), 0, counts))
    for text in axis.texts:
        text.set_color("black")
    axis.set_title(f"{wrong.sum()} of {counts.sum()} wrong")
    return figure


def mistakes(predicted: pd.DataFrame, digits: Digits) -> Figure:
    """The misclassified digits, the surest first: truth, prediction, probability."""
    wrong = predicted[predicted["truth"] != predicted["prediction"]].sort_values("probability", ascending=False)
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    figure.suptitle(f"{len(wrong)} wrong, the surest first: truth -> prediction, probability")
    for axis in figure.subplots(5, SHOWN // 5).flat:
        axis.set_axis_off()
    for axis, image, row in zip(figure.axes, digits.images[wrong.index], wrong.itertuples(), strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(f"{row.truth} -> {row.prediction}, {row.probability:.3f}", fontsize=8)
    return figure


def write_report(folder: Path, predicted: pd.DataFrame, digits: Digits) -> dict[str, float]:
    """Predictions and pictures into `folder`; gives back the share that is right and the count of what is wrong."""
    predicted.to_csv(folder / "predictions.csv")
    for title, figure in {"confusion": confusion(predicted), "mistakes": mistakes(predicted, digits)}.items():
        figure.savefig(folder / f"{title}.png", dpi=90, metadata={"Software": None})
    right = predicted["truth"] == predicted["prediction"]
    return {"test_accuracy": float(right.mean()), "test_wrong": int((~right).sum())}


def main(name: str) -> None:
    import_tensorflow()
    from training.digits import nets
    from training.watch import Curves, Progress

    digits = parameters.digits()
    net = digits.net(name)
    training, test = read(MNIST)
    images, _ = test.tensors()
    tracking.store(EXPERIMENT)
    out = MNIST.as_posix()
    tags = tracking.tags("mnist", out) | {"net": name}
    with (
        whole(NETS / name) as kept,
        whole(REPORTS / name) as report,
        mlflow.start_run(run_name=name, description=net.about, tags=tags),
    ):
        mlflow.log_params(tracking.flat(net.model_dump(exclude={"about"})) | {"seed": digits.seed})
        sides = {"train": (training.images, training.labels), "test": (test.images, test.labels)}
        tracking.log_frames(sides, out)
        watching = [
            Progress(name, net.epochs, {"accuracy": "accuracy", "test": "val_accuracy"}),
            Curves("test"),
        ]
        started = time.monotonic()
        model, history = nets.train(net, training, test, digits.seed, watching)
        minutes = (time.monotonic() - started) / 60
        probabilities = model.predict(images, nets.TEST_BATCH, verbose=0)
        model.save(kept / "net.keras")
        history.to_csv(kept / "history.csv", index_label="epoch")
        figures = write_report(report, predictions(probabilities, test), test)
        figures |= {"weights": model.count_params(), "minutes": round(minutes, 2)}
        (report / "metrics.json").write_text(json.dumps(figures, indent=1))
        mlflow.log_metrics(figures, step=len(history))  # behind the curves, as their last word
        mlflow.log_artifacts(str(report))
        tracking.log_net(model, "net", mlflow.models.infer_signature(images[:1], probabilities[:1]))


if __name__ == "__main__":
    main(sys.argv[1])
