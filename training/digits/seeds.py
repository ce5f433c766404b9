"""`make seeds`: how far a net's accuracy moves from seed to seed, into docs/digits-seeds.csv.

`python -m training.digits.seeds [NET...] [--seeds SEED...]` trains each net (all of `digits.nets` where none is named)
with the seeds 2 and 3, or those given, and keeps a row of each. With the pipeline's own run these are three. About an
hour on 2 cores.
"""

import argparse

import pandas as pd

from training import parameters
from training.digits.page import SEEDS, recipe
from training.quiet import import_tensorflow
from training.sources.mnist import MNIST, read


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.digits.seeds")
    parser.add_argument("nets", nargs="*", metavar="NET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2, 3], metavar="SEED")
    asked = parser.parse_args()
    import_tensorflow()
    from training.digits.nets import TEST_BATCH, train
    from training.watch import Progress

    digits = parameters.digits()
    training, test = read(MNIST)
    images, _ = test.tensors()
    for name in asked.nets or digits.nets:
        net = digits.net(name)
        for seed in asked.seeds:
            bar = Progress(f"{name}, seed {seed}", net.epochs, {"accuracy": "accuracy", "test": "val_accuracy"})
            model, _ = train(net, training, test, seed, [bar])
            right = model.predict(images, TEST_BATCH, verbose=0).argmax(axis=1) == test.labels
            row = {"net": name, "recipe": recipe(net), "seed": seed, "test_accuracy": right.mean()}
            known = pd.read_csv(SEEDS) if SEEDS.exists() else pd.DataFrame(columns=list(row))
            others = known[(known["net"] != name) | (known["seed"] != seed)]
            pd.concat([others, pd.DataFrame([row])]).sort_values(["net", "seed"]).to_csv(SEEDS, index=False)


if __name__ == "__main__":
    main()
