"""The queueing formula and its simulation agree with known results."""

import math

import numpy as np
import pytest

from benchmarks.queueing import Pod, erlang_c, simulated_waiting_ms, waiting_ms

EXPONENTIAL = Pod(cores=2, service_ms=np.random.default_rng(1).exponential(10.0, 20_000))


@pytest.mark.parametrize(("servers", "load", "probability"), [(1, 0.7, 0.7), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9)])
def test_erlang_c(servers, load, probability):
    """The textbook values: rho for one server, and 1/3 and 4/9 for M/M/2 and M/M/3."""
    assert erlang_c(servers, load) == pytest.approx(probability)


def test_the_formula_is_exact_for_exponential_times():
    rate = 0.8 * EXPONENTIAL.frames_per_second
    mean = float(EXPONENTIAL.service_ms.mean())
    waits = erlang_c(2, 1.6)
    exact = mean / 0.4 * math.log(waits / 0.01)
    assert waiting_ms(EXPONENTIAL, 1, rate) == pytest.approx(exact, rel=0.02)


def test_nobody_waits_where_there_are_enough_cores_and_all_wait_for_ever_where_there_are_too_few():
    assert waiting_ms(EXPONENTIAL, 10, 10.0) == 0.0
    assert math.isinf(waiting_ms(EXPONENTIAL, 1, EXPONENTIAL.frames_per_second))


@pytest.mark.slow
def test_the_simulation_agrees_with_the_formula():
    rate = 0.8 * EXPONENTIAL.frames_per_second
    simulated = simulated_waiting_ms(EXPONENTIAL, 1, rate, 40_000, least_connections=True)
    assert simulated == pytest.approx(waiting_ms(EXPONENTIAL, 1, rate), rel=0.25)


@pytest.mark.slow
def test_a_random_pod_is_worse_than_the_one_with_the_fewest_requests():
    rate = 46 * 0.8 * EXPONENTIAL.frames_per_second
    fewest, random = (simulated_waiting_ms(EXPONENTIAL, 46, rate, 10_000, choice) for choice in (True, False))
    assert random > 1.5 * fewest
