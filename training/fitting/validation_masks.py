"""A Keras callback that logs predicted masks of validation frames to MLflow."""

import keras
import mlflow
import numpy as np

from training.data.prepared_arrays import FrameArrays, frames_with_nerve
from training.workspace.plotting import draw_outlines, tile_images, to_heatmap

FRAMES_SHOWN = 6
MAX_IMAGES = 10  # about; over a whole training, evenly spaced, and one for the last epoch


class ValidationMasks(keras.callbacks.Callback):
    """Log an image of the same validation frames after some epochs, to compare the epochs.

    A row of the image is a frame with the outline of its true mask, with the outline of the predicted mask, and the
    predicted probability.
    """

    def __init__(self, arrays: FrameArrays):
        super().__init__()
        has_nerve = frames_with_nerve(arrays)
        # An empty mask shows little: at most one frame is without a nerve.
        with_nerve = _evenly_spaced(np.flatnonzero(has_nerve), FRAMES_SHOWN - 1)
        shown = np.concatenate([with_nerve, _evenly_spaced(np.flatnonzero(~has_nerve), 1)])
        self.frames, self.truth = arrays.frames[shown], arrays.masks[shown][..., 0]

    def on_epoch_end(self, epoch, logs=None) -> None:
        interval = max(1, self.params["epochs"] // MAX_IMAGES)
        is_last = epoch + 1 == self.params["epochs"]
        if epoch % interval == 0 or is_last:
            mlflow.log_image(self._draw(), key="validation masks", step=epoch)

    def _draw(self) -> np.ndarray:
        predicted = self.model(self.frames[..., np.newaxis], training=False)
        probability = keras.ops.convert_to_numpy(predicted["mask"])[..., 0]
        rows = [
            [draw_outlines(frame, truth=truth > 0), draw_outlines(frame, mask=mask >= 0.5), to_heatmap(mask)]
            for frame, truth, mask in zip(self.frames, self.truth, probability, strict=True)
        ]
        return tile_images(rows)


def _evenly_spaced(indices: np.ndarray, count: int) -> np.ndarray:
    """Return up to `count` of the indices, evenly spaced."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).astype(int))] if len(indices) else indices
