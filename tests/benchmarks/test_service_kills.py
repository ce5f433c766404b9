"""A short run of the service under kills and full disks, and what its checks find."""

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks import service_kills
from benchmarks.service_kills import find_spool_errors, find_unaudited, measure, read_audit, to_markdown
from service.rendering.image_encoding import encode_png

FAST_FAULTS = ("worker killed", "disk full for the audit log", "worker killed while its disk is full")


@pytest.mark.server
@pytest.mark.serial
def test_every_received_mask_has_its_line(model_folder, monkeypatch) -> None:
    monkeypatch.setattr(service_kills, "FAULTS", {kind: service_kills.FAULTS[kind] for kind in FAST_FAULTS})
    figures = measure(faults=4, model=model_folder)
    assert figures["errors"] == []
    assert figures["faults"].total() == 4
    assert 0 < figures["masks"] <= figures["audit_lines"]
    assert figures["spool_files"] > 0
    assert "Errors: none." in to_markdown(figures)


def test_a_mask_without_a_line_and_an_incomplete_line_are_found(tmp_path) -> None:
    line = json.dumps({"status": 200, "frame": "f", "mask": "m"})
    (tmp_path / "audit.1.jsonl").write_text(f'{line}\n{line[:-5]}\n{{"status":503}}\n')
    (tmp_path / "audit.jsonl").write_text(f"{line}\n")
    audit = read_audit(sorted(tmp_path.iterdir()))
    assert audit == {"masks": Counter({("f", "m"): 2}), "incomplete_lines": 1}
    assert find_unaudited(Counter({("f", "m"): 2}), audit["masks"]) == []
    assert find_unaudited(Counter({("f", "m"): 3}), audit["masks"]) == ["1 masks of frame f have no audit line"]
    assert find_unaudited(Counter({("f", "another"): 1}), audit["masks"]) == ["1 masks of frame f have no audit line"]


def test_damaged_and_readable_files_of_the_spool_are_found(tmp_path) -> None:
    picture = encode_png(np.zeros((20, 20), np.uint8))
    for name, data, mode in (
        ("whole.png", picture, 0o600),
        ("half.png", picture[:30], 0o600),
        ("open.png", picture, 0o644),
        (".partial.png", picture[:30], 0o600),
    ):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(mode)
    assert sorted(find_spool_errors([*tmp_path.iterdir()])) == [
        "half.png is no whole picture",
        "open.png can be read by others",
    ]
