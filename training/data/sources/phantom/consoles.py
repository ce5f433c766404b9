"""Console styles: how consoles of different kinds show the same tissue."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training.data.sources.phantom.bmode_simulation import Scanner


def _standard(scanner: Scanner, rng: np.random.Generator) -> Scanner:
    """Leave the settings as `draw_subject` draws them."""
    return scanner


def _cart(scanner: Scanner, rng: np.random.Generator) -> Scanner:
    """A cart-based console: many compounding angles and speckle reduction, so tissue looks smooth."""
    return replace(
        scanner,
        compounding_angles=int(rng.integers(4, 7)),
        speckle_reduction=float(rng.uniform(20, 50)),
        dynamic_range_db=float(rng.uniform(60, 72)),
    )


def _portable(scanner: Scanner, rng: np.random.Generator) -> Scanner:
    """A portable probe: a lower frequency and a wider beam, so details are coarse; more noise at depth."""
    return replace(
        scanner,
        frequency_mhz=float(rng.uniform(5, 7.5)),
        f_number=float(rng.uniform(2.6, 3.6)),
        compounding_angles=1,
        dynamic_range_db=float(rng.uniform(46, 54)),
        noise_db=float(rng.uniform(-80, -70)),
    )


def _high_contrast(scanner: Scanner, rng: np.random.Generator) -> Scanner:
    """A preset with a narrow dynamic range and a steep grey map: muscle is black, interfaces are white."""
    return replace(
        scanner,
        dynamic_range_db=float(rng.uniform(40, 48)),
        grey_map_exponent=float(rng.uniform(1.5, 2.3)),
        gain_db=scanner.gain_db + float(rng.uniform(4, 10)),
    )


CONSOLES: dict[str, Callable[[Scanner, np.random.Generator], Scanner]] = {
    "standard": _standard,
    "cart": _cart,
    "portable": _portable,
    "high_contrast": _high_contrast,
}
