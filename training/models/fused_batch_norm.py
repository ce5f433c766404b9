"""Batch normalisation for training by TensorFlow's fused operation.

Keras computes batch normalisation with a dozen elementwise operations and reductions, each of which reads or writes the
whole tensor. The fused operation has the same result. On CPUs it is one of oneDNN's, on GPUs one of cuDNN's.
"""

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer for inputs (N, H, W, C), normalised over C, with the same weights. It differs only in training."""

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32), epsilon=self.epsilon
        )
        # The operation returns the unbiased variance (n - 1); Keras' moving variance is of the biased one (n).
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance *= (count - 1) / count
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


def fuse_batch_norm(model: keras.Model) -> keras.Model:
    """Return a copy of the model for training, with fused batch normalisation and the same layer names and weights.

    On several devices it is Keras' own layer, with the statistics of the whole batch: the fused operation sees a part.

    Do not save the copy: who loads it would need this class. Give its weights to a model of Keras' own layers.
    """

    has_several_devices = tf.distribute.get_strategy().num_replicas_in_sync > 1

    def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer) is not keras.layers.BatchNormalization:
            return type(layer).from_config(config)
        if has_several_devices:
            return keras.layers.BatchNormalization.from_config(config | {"synchronized": True})
        return FusedBatchNormalization.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone_layer)
    copy.set_weights(model.get_weights())
    return copy
