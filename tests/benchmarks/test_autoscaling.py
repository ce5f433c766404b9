"""The simulated autoscaler follows Kubernetes' rules."""

import dataclasses

import numpy as np
import pytest

from benchmarks import autoscaling
from benchmarks.autoscaling import Autoscaler, Pods, next_pods, simulate_day, target_per_core
from benchmarks.queueing import Pod

POD = Pod(cores=2, service_ms=np.full(10, 10.0))  # 200 frames per second
AUTOSCALER = Autoscaler(target=1.5, signal_seconds=60, min_pods=2, max_pods=8, stabilization_seconds=300)


@pytest.mark.parametrize(
    ("requests", "ready", "starting", "wanted"),
    [
        (12.0, 2, 0, 8),  # 6 for each pod: four times the target
        (3.2, 2, 0, 2),  # within the tolerance of a tenth
        (4.0, 2, 0, 3),
        (0.0, 4, 0, 2),  # the minimum
        (100.0, 4, 0, 8),  # the maximum
        (4.0, 2, 2, 4),  # the pods that start are enough
    ],
)
def test_the_pods_that_the_signal_asks_for(requests, ready, starting, wanted):
    assert AUTOSCALER.wanted_pods(requests, ready, starting) == wanted


def test_a_step_adds_four_pods_or_doubles_them():
    assert next_pods(2, [8]) == 6
    assert next_pods(6, [20]) == 12


def test_pods_go_only_when_the_whole_window_wanted_fewer():
    assert next_pods(6, [8, 3, 3]) == 6
    assert next_pods(6, [4, 3, 2]) == 4


def test_pods_that_start_take_no_frames_and_end_first():
    pods = Pods(2)
    pods.scale(4, ready_at=10.0)
    assert (pods.ready, len(pods)) == (2, 4)
    pods.scale(3, ready_at=20.0)
    pods.become_ready(10.0)
    assert (pods.ready, len(pods)) == (3, 3)


def test_a_frame_waits_as_long_as_its_queue_takes(monkeypatch):
    """At 110 % of two pods for a quarter of an hour without an autoscaler: the queue grows by 40 frames a second."""
    monkeypatch.setattr(autoscaling, "HOURS", (110,) * 24)
    fixed = dataclasses.replace(AUTOSCALER, max_pods=2)
    monkeypatch.setattr(autoscaling, "SYNC_SECONDS", 900)
    day = simulate_day(POD, dataclasses.replace(fixed, signal_seconds=0, stabilization_seconds=0), 400.0, 3.0, hours=1)
    assert day["longest_waiting_seconds"] == pytest.approx(3600 * 40 / 400, rel=0.05)


def test_the_projects_target_keeps_frames_from_waiting_and_a_target_above_the_cores_does_not():
    highest = 0.7 * AUTOSCALER.max_pods * POD.frames_per_second
    good, bad = (
        simulate_day(POD, dataclasses.replace(AUTOSCALER, target=target * POD.cores), highest, 3.0)
        for target in (target_per_core(), 2.0)
    )
    assert good["late_share"] < 0.005 < bad["late_share"]
    assert good["pod_hours"] < 0.7 * 24 * AUTOSCALER.max_pods
