"""The queueing formula and its simulation agree with known results."""

import math

import numpy as np
import pytest

from benchmarks.queueing import BALANCERS, RANDOM, Pod, erlang_c, simulated_waiting_ms, waiting_ms

EXPONENTIAL = Pod(cores=2, service_ms=np.random.default_rng(1).exponential(10.0, 20_000))


@pytest.mark.parametrize(("servers", "load", "probability"), [(1, 0.7, 0.7), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9)])
def test_erlang_c(servers, load, probability):
    """The textbook values: rho for one server, and 1/3 and 4/9 for M/M/2 and M/M/3."""
    assert erlang_c(servers, load) == pytest.approx(probability)


def test_the_formula_is_exact_for_exponential_times_on_one_core():
    """M/M/1: the wait is 0 with probability 1 - rho, else exponential with mean 1 / (mu - lambda)."""
    pod = Pod(cores=1, service_ms=EXPONENTIAL.service_ms)
    mean = float(pod.service_ms.mean())
    exact = mean / (1 - 0.8) * math.log(0.8 / 0.01)
    assert waiting_ms(pod, 1, 0.8 * pod.frames_per_second) == pytest.approx(exact, rel=0.02)


def test_nobody_waits_where_there_are_enough_cores_and_all_wait_for_ever_where_there_are_too_few():
    assert waiting_ms(EXPONENTIAL, 10, 10.0) == 0.0
    assert math.isinf(waiting_ms(EXPONENTIAL, 1, EXPONENTIAL.frames_per_second))


@pytest.mark.slow
def test_the_simulation_agrees_with_the_formula():
    rate = 0.8 * EXPONENTIAL.frames_per_second
    simulated = simulated_waiting_ms(EXPONENTIAL, 1, rate, 40_000, RANDOM)
    assert simulated == pytest.approx(waiting_ms(EXPONENTIAL, 1, rate), rel=0.25)


@pytest.mark.slow
def test_the_balancer_that_knows_most_keeps_frames_waiting_least():
    rate = 46 * 0.8 * EXPONENTIAL.frames_per_second
    fewest, in_turn, random = (simulated_waiting_ms(EXPONENTIAL, 46, rate, 10_000, name) for name in BALANCERS)
    assert fewest < in_turn < random
