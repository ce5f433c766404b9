"""Hypothesis strategy for small masks."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

MASKS = arrays(
    np.uint8,
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    elements=st.sampled_from([0, 255]),
    fill=st.sampled_from([0, 255]),
)
