"""Operations of convolutions are counted from oneDNN's log."""

import pytest

from benchmarks.training_roofline import DENSE, DEPTHWISE, OTHER_PRIMITIVES, sum_primitives

START = "onednn_verbose,v1,primitive,exec,cpu"
LOG = f"""onednn_verbose,v1,info,oneDNN v3.7.3 (commit N/A)
{START},convolution,brg:avx2,forward_training,src:f32,,alg:convolution_direct,mb16_ic32oc16_ih40oh40kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1,3.5
{START},convolution,brg:avx2,backward_data,src:f32,,alg:convolution_direct,mb16_ic32oc16_ih40oh40kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1,4.5
{START},convolution,jit_dw:avx2,forward_training,src:f32,,alg:x,mb16_g96ic96oc96_ih40oh20kh5sh2dh0ph1_iw56ow28kw5sw2dw0pw1,1.0
{START},batch_normalization,bnorm:avx2,backward,data:f32,,flags:CH,mb16ic16ih40iw56,2.0
{{"wall_ms": 1}}
"""


def test_operations_and_times_are_summed_by_kind_and_resolution() -> None:
    dense, other, depthwise = sum_primitives(LOG, steps=2)
    assert (dense["layers"], dense["resolution"], dense["ms"]) == (DENSE, "40x56", 4.0)
    assert dense["gflop"] == pytest.approx(2 * 16 * 16 * 40 * 56 * 32 * 9 / 1e9)
    assert (other["layers"], other["gflop"], other["ms"]) == (OTHER_PRIMITIVES, 0, 1.0)
    assert (depthwise["layers"], depthwise["resolution"]) == (DEPTHWISE, "20x28")
    assert depthwise["gflop"] == pytest.approx(2 * 16 * 96 * 20 * 28 * 25 / 1e9 / 2)
