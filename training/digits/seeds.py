"""`make seeds`: how far a net's accuracy moves from seed to seed, into docs/digits-seeds.csv.

`python -m training.digits.seeds [NET...]` trains each net (all of `digits.nets` where none is named) with the seeds
below and replaces its rows. Together with the pipeline's own run these are three. About an hour on 2 cores.
"""

import sys

import pandas as pd

from training import parameters
from training.digits.page import SEEDS
from training.quiet import import_tensorflow
from training.sources.mnist import MNIST, read

OTHERS = (2, 3)  # the pipeline's own is digits.seed


def main(names: list[str]) -> None:
    import_tensorflow()
    from training.digits.nets import TEST_BATCH, train
    from training.watch import Progress

    digits = parameters.digits()
    training, test = read(MNIST)
    images, _ = test.tensors()
    for name in names or digits.nets:
        net = digits.net(name)
        rows = []
        for seed in OTHERS:
            bar = Progress(f"{name}, seed {seed}", net.epochs, {"accuracy": "accuracy", "test": "val_accuracy"})
            model, _ = train(net, training, test, seed, [bar])
            right = model.predict(images, TEST_BATCH, verbose=0).argmax(axis=1) == test.labels
            rows.append({"net": name, "seed": seed, "test_accuracy": right.mean()})
        known = pd.read_csv(SEEDS) if SEEDS.exists() else pd.DataFrame(columns=["net"])
        pd.concat([known[known["net"] != name], pd.DataFrame(rows)]).to_csv(SEEDS, index=False)


if __name__ == "__main__":
    main(sys.argv[1:])
