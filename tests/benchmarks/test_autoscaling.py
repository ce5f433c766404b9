"""The simulated autoscaler follows Kubernetes' rules."""

import dataclasses

import pytest

from benchmarks import autoscaling
from benchmarks.autoscaling import Autoscaler, MeasuredPod, Pods, next_pods, simulate_day

POD = MeasuredPod(highest_per_second=200.0, ready_seconds=3.0, loads=[0.5, 0.9], signals=[2.0, 8.0])
AUTOSCALER = Autoscaler(target=1.5, min_pods=2, max_pods=8, stabilization_seconds=300)


@pytest.mark.parametrize(
    ("requests", "ready", "starting", "wanted"),
    [
        (12.0, 2, 0, 8),  # 6 for each pod: four times the target
        (3.2, 2, 0, 2),  # within the tolerance of a tenth
        (4.0, 2, 0, 3),
        (0.0, 4, 0, 2),  # the minimum
        (100.0, 4, 0, 8),  # the maximum
        (4.0, 2, 2, 4),  # the pods that start are enough
        (1.0, 4, 2, 3),  # (1 / 1.5 + 2) / 6 of the target: pods without a metric count as at the target
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


def test_the_signal_is_interpolated_between_the_measured_loads():
    assert [POD.requests(load) for load in (0.0, 0.25, 0.7, 1.5)] == pytest.approx([0.0, 1.0, 5.0, 8.0])


def test_a_frame_waits_as_long_as_its_queue_takes(monkeypatch):
    """At 102 % of two pods for an hour, without an autoscaler: the queue grows by 8 frames a second."""
    monkeypatch.setattr(autoscaling, "HOURS", (102,) * 24)
    monkeypatch.setattr(autoscaling, "MAX_QUEUE_SECONDS", 10_000.0)
    day = simulate_day(POD, dataclasses.replace(AUTOSCALER, max_pods=2), 400.0, hours=1)
    assert day["longest_waiting_seconds"] == pytest.approx(3600 * 8 / 400, rel=0.1)
    assert day["refused_share"] == 0


def test_what_would_wait_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(autoscaling, "HOURS", (125,) * 24)
    day = simulate_day(POD, dataclasses.replace(AUTOSCALER, max_pods=2), 400.0, hours=1)
    assert day["refused_share"] == pytest.approx(0.2, abs=0.01)
    assert day["longest_waiting_seconds"] == autoscaling.MAX_QUEUE_SECONDS


def test_a_low_target_keeps_frames_from_waiting_and_a_high_one_does_not():
    highest = 0.7 * AUTOSCALER.max_pods * POD.highest_per_second
    low, high = (simulate_day(POD, dataclasses.replace(AUTOSCALER, target=target), highest) for target in (2.0, 16.0))
    assert low["late_share"] < 0.005 < high["late_share"]
    assert low["pod_hours"] < 0.8 * 24 * AUTOSCALER.max_pods
