"""The table of test accuracies with other seeds, which `make seeds` writes."""

import hashlib
from pathlib import Path

from training.workspace.digits_parameters import DigitNet

SEEDS = Path("docs/digits-seeds.csv")  # net, recipe, seed, test_accuracy


def recipe_digest(net: DigitNet) -> str:
    """Return a digest of the network's entry in params.yaml, without `about`."""
    return hashlib.sha256(net.model_dump_json(exclude={"about"}).encode()).hexdigest()[:12]
