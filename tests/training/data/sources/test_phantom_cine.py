"""A simulated cine moves as a probe does, and its speckle moves with the tissue."""

from itertools import islice, pairwise

import numpy as np

from training.data.frame_mask_pair import NERVE
from training.data.sources.phantom.cine import TissueScatterers, simulate_cine
from training.data.sources.phantom.structures import Plane
from training.evaluation.segmentation_metrics import dice

FRAMES = 4


def test_the_same_numbers_give_the_same_cine() -> None:
    first, second = (list(simulate_cine(1, 3, FRAMES)) for _ in range(2))
    for (pixels, labels), (other_pixels, other_labels) in zip(first, second, strict=True):
        assert np.array_equal(pixels, other_pixels)
        assert np.array_equal(labels, other_labels)
        assert (pixels.shape, pixels.dtype, labels.dtype) == ((420, 580), np.uint8, np.uint8)


def test_the_nerve_moves_a_little_from_frame_to_frame() -> None:
    cine = [labels == NERVE for _, labels in simulate_cine(1, 3, FRAMES)]
    steps = [dice(mask, after) for mask, after in pairwise(cine)]
    assert min(steps) > 0.9
    assert max(steps) < 1


def test_in_a_sweep_the_nerve_leaves_the_frame_and_comes_back() -> None:
    shown = [(labels == NERVE).any() for _, labels in islice(simulate_cine(1, 3, 81, sweeps=True), 0, 81, 8)]
    assert shown[0]
    assert shown[-1]
    assert not all(shown)


def test_speckle_moves_with_the_tissue_and_fades_along_the_limb() -> None:
    scatterers = TissueScatterers(0.08, 1, np.random.default_rng(1))
    column, row = np.meshgrid(np.arange(200, dtype=np.float32) * 0.08, np.arange(100, dtype=np.float32) * 0.08)

    def field(lateral_mm: float = 0.0, elevation_mm: float = 0.0) -> np.ndarray:
        return scatterers.at(Plane(column + np.float32(lateral_mm), row, elevation_mm))(0).real

    def correlation(other: np.ndarray) -> float:
        return float(np.corrcoef(field().ravel(), other.ravel())[0, 1])

    assert np.mean(field()[:, 10:] == field(lateral_mm=0.8)[:, :-10]) > 0.95
    assert correlation(field(elevation_mm=0.2)) > 0.9
    assert abs(correlation(field(elevation_mm=1.0))) < 0.05
    assert abs(np.std(field(elevation_mm=0.5)) - 1) < 0.05
