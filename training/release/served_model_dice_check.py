"""Reject a model to serve whose test Dice is below the evaluated model's."""

from typing import Any

from training.data.split_table import rows_of_split
from training.evaluation.inference import Network, dice_scores
from training.evaluation.postprocessing_fit import read_postprocessing
from training.evaluation.summary import format_interval

MAX_TEST_DICE_DROP = 0.05  # larger than the difference between two seeds (docs/accuracy.md, Ablations)


class ServedModelDiceError(SystemExit):
    """The model to serve is worse than the evaluated model. It ends the stage with this message alone."""


def check_test_dice(network: Network, evaluation: dict[str, Any]) -> float:
    """Return the mean Dice on the test split of a model to serve.

    A refit was trained on these frames, so only a failed training or export makes its Dice low.

    evaluation: metrics.json of the evaluated model.

    Raises ServedModelDiceError if the Dice is more than MAX_TEST_DICE_DROP below that model's.
    """
    postprocessing = read_postprocessing(evaluation)
    dice = float(dice_scores(network, postprocessing, rows_of_split("test"), "model to serve").mean())
    if dice < evaluation["test"]["dice"] - MAX_TEST_DICE_DROP:
        raise ServedModelDiceError(
            f"The model to serve has a Dice of {dice:.3f} on the test split; the evaluated model has "
            f"{format_interval(evaluation['test'], 'dice')}. The stage stops. To serve the evaluated model, remove the "
            "source from nerve.refit in params.yaml. To train all candidates again, change nerve.seed."
        )
    return dice
