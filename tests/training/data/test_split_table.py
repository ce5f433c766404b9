"""The stage split: test subjects are not in training, and contradictory training frames are left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.frames import png
from tests.project_copy import write_nerve
from training.data import split, split_table
from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import write_pairs
from training.data.source_errors import IngestLog
from training.data.split_table import rows_of_split, without_contradictions
from training.workspace import paths
from training.workspace.output_checksums import output_folder

BLOCKS = (6, 8)  # 20-pixel blocks of a frame: rows, columns


def pattern(seed: int, changed_px: int = 0) -> np.ndarray:
    """Return a frame that differs from that of any other seed, with some pixels inverted."""
    rng = np.random.default_rng(seed)
    grey = np.kron(rng.integers(0, 256, BLOCKS), np.ones((20, 20))).astype(np.uint8)
    changed = np.random.default_rng(1000 + seed).choice(grey.size, changed_px, replace=False)
    grey.flat[changed] = 255 - grey.flat[changed]
    return grey


def labels(top: int | None) -> np.ndarray:
    """Return a nerve of 40 x 40 pixels with its upper edge in row `top`, or no nerve."""
    mask = np.zeros((BLOCKS[0] * 20, BLOCKS[1] * 20), np.uint8)
    if top is not None:
        mask[top : top + 40, 50:90] = 1
    return mask


# (subject, number): frame, labels. Nearly identical frames have the same seed and some changed pixels.
FRAMES = {
    ("1", 1): (pattern(1), labels(20)),
    ("1", 2): (pattern(1, 40), labels(None)),  # contradicts 1_1: a nerve there, none here
    ("1", 3): (pattern(2), labels(20)),
    ("1", 4): (pattern(2, 40), labels(22)),  # agrees with 1_3
    ("1", 5): (pattern(3), labels(0)),
    ("1", 6): (pattern(3, 40), labels(70)),  # contradicts 1_5: the nerve is somewhere else
    ("1", 7): (pattern(4), labels(None)),
    ("1", 8): (pattern(4, 40), labels(None)),  # agrees with 1_7: neither has a nerve
    ("1", 9): (pattern(5), labels(20)),
    ("1", 10): (pattern(6), labels(None)),  # another mask than 1_9, but another frame too
    ("2", 1): (pattern(1, 10), labels(None)),  # contradicts 1_1, but belongs to another subject
}
CONTRADICTORY = {"frames/1_1.png", "frames/1_2.png", "frames/1_5.png", "frames/1_6.png"}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """data/frames with FRAMES and 18 more subjects of one frame each."""
    monkeypatch.chdir(tmp_path)
    more = {(str(subject), 1): (pattern(100 + subject), labels(20)) for subject in range(3, 21)}
    pairs = [FrameMaskPair(png(frame), ".png", mask, *key) for key, (frame, mask) in (FRAMES | more).items()]
    pairs.append(FrameMaskPair(png(pattern(1)), ".png", None, "test", 1))
    with output_folder(paths.FRAMES) as folder:
        write_pairs(pairs, folder, "synthetic", IngestLog(False))
    write_split_parameters(validation=0.15, test=0.2)
    return tmp_path


def write_split_parameters(validation: float, test: float, seed: int = 1) -> None:
    write_nerve(Path(), {"split": {"validation": validation, "test": test, "blocks": 15, "seed": seed}})


def read_table() -> pd.DataFrame:
    return pd.read_csv(paths.SPLIT_TABLE, keep_default_na=False).set_index("frame")


def split_with_subject_1_in(name: str) -> pd.DataFrame:
    """Run the stage with the first seed that puts subject 1 into this split; return the split table."""
    for seed in range(100):
        write_split_parameters(0.15, 0.2, seed)
        split.main()
        table = read_table()
        if table.loc["frames/1_9.png", "split"] == name:
            return table
    raise AssertionError(f"no seed puts subject 1 into {name}")


def test_contradictory_training_frames_are_left_out_with_the_reason(project):
    table = split_with_subject_1_in("train")
    assert set(table.index[table["split"] == "left_out"]) == CONTRADICTORY
    assert table.loc["frames/1_2.png", "reason"] == "nearly identical to frames/1_1.png, with another mask"
    assert table.loc["frames/1_5.png", "reason"] == "nearly identical to frames/1_6.png, with another mask"
    assert (table.drop(index=list(CONTRADICTORY))["reason"] == "").all()
    assert CONTRADICTORY.isdisjoint(row.frame for row in rows_of_split("train"))


def test_contradictory_test_frames_stay_but_have_the_reason(project):
    table = split_with_subject_1_in("test")
    assert "left_out" not in set(table["split"])
    assert set(table.index[table["reason"] != ""]) == CONTRADICTORY


@pytest.mark.slow
def test_masks_of_test_frames_do_not_decide_which_training_frames_are_left_out(project, monkeypatch):
    """Without subjects, blocks can put the two frames of a contradiction into two splits."""
    monkeypatch.setattr(split_table, "assign_groups", lambda subjects, blocks: np.arange(len(subjects)))
    for seed in range(100):
        write_split_parameters(0.15, 0.2, seed)
        split.main()
        table = read_table()
        if tuple(table.loc[["frames/1_1.png", "frames/1_2.png"], "split"]) == ("train", "test"):
            break
    assert table.loc["frames/1_1.png", "split"] == "train"
    assert table.loc["frames/1_1.png", "reason"] != ""
    rows = [row for name in ("train", "validation", "test") for row in rows_of_split(name)]
    assert CONTRADICTORY.isdisjoint(row.frame for row in without_contradictions(rows))


def test_each_labelled_frame_is_in_the_table_once(project):
    split.main()
    table = pd.read_csv(paths.SPLIT_TABLE)
    assert len(table) == table["frame"].nunique() == len(FRAMES) + 18
    assert "frames/test_1.png" not in set(table["frame"])
    rows = [row for name in ("train", "validation", "test", "left_out") for row in rows_of_split(name)]
    assert sorted(row.frame for row in rows) == sorted(table["frame"])


def test_the_stage_exits_with_the_message_only(project):
    write_split_parameters(0.5, 0.5)
    with pytest.raises(SystemExit, match=r"^params.yaml: nerve.split: 20 subjects .*validation 0.5 and test 0.5"):
        split.main()
