"""The optimizer of a training: Adam, with an own learning rate for the encoder."""

import keras

from training.models.efficientnet import ENCODER_PREFIX
from training.workspace.nerve_parameters import Recipe


class AdamWithEncoderRate(keras.optimizers.Adam):
    """Adam that updates encoder layers with encoder_lr_multiplier times the learning rate."""

    def __init__(self, encoder_lr_multiplier: float, **arguments):
        super().__init__(**arguments)
        self.encoder_lr_multiplier = encoder_lr_multiplier

    def update_step(self, gradient, variable, learning_rate):
        path = self._trainable_variables[self._get_variable_index(variable)].path
        multiplier = self.encoder_lr_multiplier if path.startswith(ENCODER_PREFIX) else 1.0
        super().update_step(gradient, variable, learning_rate * multiplier)


def build_optimizer(recipe: Recipe) -> AdamWithEncoderRate:
    """Return a new optimizer with the recipe's encoder rate and moving average of the weights.

    The learning-rate schedule sets the learning rate before each epoch.
    """
    return AdamWithEncoderRate(
        recipe.encoder_lr_multiplier, use_ema=bool(recipe.ema_momentum), ema_momentum=recipe.ema_momentum or 0.0
    )
