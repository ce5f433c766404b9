"""The refit of a champion keeps the heads of the evaluated model."""

import pandas as pd

from training.release.refit import refit_recipe
from training.workspace.nerve_parameters import read_candidate


def test_the_refit_has_a_presence_head_only_if_the_evaluated_model_trained_one():
    light = read_candidate("light")
    for column, has_head in (("presence_loss", True), ("mask_loss", False)):
        refit = refit_recipe(light, pd.DataFrame({column: [0.1]}))
        assert ("presence" in refit.net.heads) is has_head
        assert refit.recipe.patience is None
