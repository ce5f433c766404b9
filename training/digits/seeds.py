"""`make seeds`: the test accuracy of the networks with other seeds, into docs/digits-seeds.csv.

`python -m training.digits.seeds [NET...] [--seeds SEED...]` trains each network with each seed and keeps one row for
each run. NET: all of `digits.nets` by default. SEED: 2 and 3 by default; with the pipeline's own run these are three
seeds. All networks take about an hour on 2 cores.
"""

import argparse

import pandas as pd

from training.data.sources.mnist import read_digits
from training.digits.seed_table import SEEDS, recipe_digest
from training.workspace import digits_parameters, paths
from training.workspace.tensorflow_import import import_tensorflow


def save_row(row: dict[str, object]) -> None:
    """Write a row to SEEDS; it replaces the row of the same network and seed."""
    table = pd.read_csv(SEEDS) if SEEDS.exists() else pd.DataFrame(columns=list(row))
    other_rows = table[(table["net"] != row["net"]) | (table["seed"] != row["seed"])]
    pd.concat([other_rows, pd.DataFrame([row])]).sort_values(["net", "seed"]).to_csv(SEEDS, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.digits.seeds")
    parser.add_argument("nets", nargs="*", metavar="NET", help="a network of digits.nets (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2, 3], metavar="SEED", help="default: 2 3")
    arguments = parser.parse_args()
    import_tensorflow()
    from training.digits.nets import TEST_BATCH_SIZE, train
    from training.workspace.keras_callbacks import ProgressBar

    digits = digits_parameters.read_digits_parameters()
    training, test = read_digits(paths.MNIST)
    images, _ = test.tensors()
    for name in arguments.nets or digits.nets:
        net = digits.net(name)
        for seed in arguments.seeds:
            bar = ProgressBar(f"{name}, seed {seed}", net.epochs, {"accuracy": "accuracy", "test": "val_accuracy"})
            model, _ = train(net, training, test, seed, [bar])
            correct = model.predict(images, TEST_BATCH_SIZE, verbose=0).argmax(axis=1) == test.labels
            save_row({"net": name, "recipe": recipe_digest(net), "seed": seed, "test_accuracy": correct.mean()})


if __name__ == "__main__":
    main()
