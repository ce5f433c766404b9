"""Drift: the distance of recent frames from the training frames, as a metric."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.decoding.frame import Frame
from service.model.card import Card, MeanStd, ReferenceStats
from service.monitoring.drift import MIN_FRAMES, intensity_mean_std
from service.rendering.image_encoding import encode_png
from tests.conftest import serving
from tests.service.monitoring.prometheus_samples import read_samples

pytestmark = pytest.mark.server

PNG = {"content-type": "image/png"}
ALERT_DRIFT = 3  # of NervemaskDrift in deploy/prometheus/rules.yml


def mean_std(values) -> MeanStd:
    return MeanStd(float(np.mean(values)), float(np.std(values)))


def drift(feature: str) -> str:
    return f'nervemask_drift{{feature="{feature}"}}'


@pytest.mark.serial
def test_darker_frames_than_in_training_raise_the_drift(model_folder, segmenter, speckle, tmp_path) -> None:
    frames = [speckle(seed, 60, 80) for seed in range(MIN_FRAMES)]
    means, stds = zip(*(intensity_mean_std(Frame(pixels)) for pixels in frames), strict=True)
    confidences = [segmenter.segment(Frame(pixels)).confidence for pixels in frames]
    reference = ReferenceStats(mean_std(means), mean_std(stds), 0.5, mean_std(confidences))
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    replace(Card.read(folder), reference_stats=reference).write(folder)
    with serving(folder, tmp_path) as server, httpx.Client(base_url=server.address, timeout=60) as client:
        for pixels in frames:
            client.post("/mask", content=encode_png(pixels), headers=PNG)
        near = read_samples(server.address)
        for pixels in frames * 2:
            client.post("/mask", content=encode_png(pixels // 4), headers=PNG)
        far = read_samples(server.address)
        replace(Card.read(folder), version="8").write(folder)
        deadline = time.monotonic() + 60
        while (after_reload := read_samples(server.address))[drift("intensity_mean")] and time.monotonic() < deadline:
            time.sleep(0.1)
    assert near[drift("intensity_mean")] < 0.1
    assert far[drift("intensity_mean")] > 1
    assert far[drift("presence_rate")] > ALERT_DRIFT  # all frames show a nerve, but half of the training frames
    assert {drift("intensity_deviation"), drift("confidence")} <= set(far)
    assert after_reload[drift("intensity_mean")] == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_intensity_is_on_the_scale_of_255(dtype) -> None:
    pixels = np.full((40, 40), 100, dtype) * (257 if dtype == np.uint16 else 1)
    assert intensity_mean_std(Frame(pixels.astype(dtype))) == pytest.approx((100, 0))
