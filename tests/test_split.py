"""Whoever is trained on is never tested on; what contradicts itself is not trained on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frames import png
from tests.project import write_nerve
from training import split
from training.parameters import ParameterError
from training.sources.layout import FRAMES, Faults, Pair, write

BLOCKS = (6, 8)  # 20-pixel blocks of a frame, down and across

subjects = st.lists(st.integers(1, 40).map(str), min_size=10, max_size=200)
shares = st.floats(0.05, 0.35)


@given(subjects, shares, shares, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_no_subject_stands_on_two_sides_and_no_frame_is_lost(of_frames, validation, test, seed):
    group = split.groups(of_frames, blocks=10)
    total = len(set(group))
    try:
        side = split.divide(group, validation, test, seed)
    except ParameterError:
        assert total <= max(1, round(validation * total)) + max(1, round(test * total))
        return
    table = pd.DataFrame({"subject": of_frames if len(set(of_frames)) > 1 else group, "side": side})
    assert (table.groupby("subject")["side"].nunique() == 1).all()
    assert set(side) == {"train", "validation", "test"}
    count = table.drop_duplicates("subject")["side"].value_counts()
    assert abs(count["validation"] - validation * total) <= 1
    assert abs(count["test"] - test * total) <= 1


@given(st.integers(3, 300), st.integers(3, 40))
@settings(deadline=None)
def test_where_no_subject_is_recorded_blocks_of_neighbours_stay_together(frames, blocks):
    group = split.groups(["usgra"] * frames, blocks)
    assert len(group) == frames
    assert set(np.diff(group)) <= ({0, 1} if frames >= blocks else set(range(1, blocks)))
    assert len(set(group)) == min(frames, blocks)
    sizes = np.bincount(group)
    assert sizes.max() - sizes.min() <= 1


def test_a_seed_gives_one_split_and_another_seed_another():
    group = np.arange(60).repeat(3)
    first = split.divide(group, 0.15, 0.2, seed=1)
    assert np.array_equal(first, split.divide(group, 0.15, 0.2, seed=1))
    assert not np.array_equal(first, split.divide(group, 0.15, 0.2, seed=2))


@pytest.mark.parametrize(("total", "validation", "test"), [(1, 0.15, 0.2), (2, 0.15, 0.2), (10, 0.5, 0.5)])
def test_too_few_subjects_for_three_sides_are_an_error(total, validation, test):
    with pytest.raises(ParameterError, match=rf"nerve.split: {total} subjects .*cannot be divided"):
        split.divide(np.arange(total).repeat(5), validation, test, seed=1)


def test_block_histograms_are_the_histograms_of_the_blocks():
    grey = np.random.default_rng(0).integers(0, 256, (65, 50), dtype=np.uint8)
    found = split.block_histogram(grey).reshape(3 * 2, 16)
    for row in range(3):
        for column in range(2):
            block = grey[20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
            expected = np.histogram(block, bins=16, range=(0, 256))[0] / 400
            assert found[2 * row + column] == pytest.approx(expected)
    assert np.array_equal(split.block_histogram(grey.astype(np.uint16) * 257), found.ravel())


def pattern(seed: int, noise: int = 0) -> np.ndarray:
    """A frame unlike that of any other seed; `noise` changes so many pixels of it."""
    rng = np.random.default_rng(seed)
    grey = np.kron(rng.integers(0, 256, BLOCKS), np.ones((20, 20))).astype(np.uint8)
    touched = np.random.default_rng(1000 + seed).choice(grey.size, noise, replace=False)
    grey.flat[touched] = 255 - grey.flat[touched]
    return grey


def labels(top: int | None) -> np.ndarray:
    """A nerve of 40 x 40 pixels from row `top` on, or none."""
    drawn = np.zeros((BLOCKS[0] * 20, BLOCKS[1] * 20), np.uint8)
    if top is not None:
        drawn[top : top + 40, 50:90] = 1
    return drawn


# Subject, frame, mask. Near-duplicates have the same seed and a little noise.
PLANTED = {
    ("1", 1): (pattern(1), labels(20)),
    ("1", 2): (pattern(1, 40), labels(None)),  # contradicts 1_1: there, and not there
    ("1", 3): (pattern(2), labels(20)),
    ("1", 4): (pattern(2, 40), labels(22)),  # agrees with 1_3
    ("1", 5): (pattern(3), labels(0)),
    ("1", 6): (pattern(3, 40), labels(70)),  # contradicts 1_5: somewhere else
    ("1", 7): (pattern(4), labels(None)),
    ("1", 8): (pattern(4, 40), labels(None)),  # agrees with 1_7: neither has a nerve
    ("1", 9): (pattern(5), labels(20)),
    ("1", 10): (pattern(6), labels(None)),  # another mask, but another frame as well
    ("2", 1): (pattern(1, 10), labels(None)),  # contradicts 1_1, but is another subject's
}
CONTRADICTORY = {"frames/1_1.png", "frames/1_2.png", "frames/1_5.png", "frames/1_6.png"}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """data/frames with the planted frames and 18 more subjects of one frame each."""
    monkeypatch.chdir(tmp_path)
    more = {(str(subject), 1): (pattern(100 + subject), labels(20)) for subject in range(3, 21)}
    pairs = [Pair(png(frame), ".png", mask, *key) for key, (frame, mask) in (PLANTED | more).items()]
    pairs.append(Pair(png(pattern(1)), ".png", None, "test", 1))
    write(pairs, FRAMES, "planted", Faults(False))
    save_parameters(validation=0.15, test=0.2)
    return tmp_path


def save_parameters(validation: float, test: float, seed: int = 1) -> None:
    chosen = {"validation": validation, "test": test, "blocks": 15, "seed": seed}
    write_nerve(Path(), {"split": chosen})


def seed_with_subject_1_in(side: str) -> int:
    """The first seed that puts subject 1 there."""
    for seed in range(100):
        save_parameters(0.15, 0.2, seed)
        split.main()
        table = pd.read_csv(split.SPLIT).set_index("frame")
        if table.loc["frames/1_9.png", "split"] == side:
            return seed
    raise AssertionError(f"no seed puts subject 1 into {side}")


def test_contradictory_frames_are_left_out_of_training_and_listed(project):
    seed_with_subject_1_in("train")
    table = pd.read_csv(split.SPLIT, keep_default_na=False).set_index("frame")
    assert set(table.index[table["split"] == "left_out"]) == CONTRADICTORY
    assert table.loc["frames/1_2.png", "reason"] == "nearly the same as frames/1_1.png, with another mask"
    assert table.loc["frames/1_5.png", "reason"] == "nearly the same as frames/1_6.png, with another mask"
    assert (table.drop(index=list(CONTRADICTORY))["reason"] == "").all()
    assert CONTRADICTORY.isdisjoint(row.frame for row in split.rows_of("train"))


def test_held_out_frames_stay_however_contradictory_but_are_named(project):
    seed_with_subject_1_in("test")
    table = pd.read_csv(split.SPLIT, keep_default_na=False).set_index("frame")
    assert "left_out" not in set(table["split"])
    assert set(table.index[table["reason"] != ""]) == CONTRADICTORY


def test_no_mask_of_a_held_out_frame_tells_what_to_leave_out_of_training(project, monkeypatch):
    """Two of a pair on two sides: blocks of a data set without subjects can be divided so."""
    monkeypatch.setattr(split, "groups", lambda subjects, blocks: np.arange(len(subjects)))
    for seed in range(100):
        save_parameters(0.15, 0.2, seed)
        split.main()
        table = pd.read_csv(split.SPLIT, keep_default_na=False).set_index("frame")
        side = table["split"].to_dict()
        if (side["frames/1_1.png"], side["frames/1_2.png"]) == ("train", "test"):
            break
    assert side["frames/1_1.png"] == "train"
    assert table.loc["frames/1_1.png", "reason"] != ""
    every = [row for kind in ("train", "validation", "test") for row in split.rows_of(kind)]
    assert CONTRADICTORY.isdisjoint(row.frame for row in split.without_contradictions(every))


def test_every_labelled_frame_stands_in_the_split_once(project):
    split.main()
    table = pd.read_csv(split.SPLIT)
    assert len(table) == table["frame"].nunique() == len(PLANTED) + 18
    assert "frames/test_1.png" not in set(table["frame"])
    rows = [row for side in ("train", "validation", "test", "left_out") for row in split.rows_of(side)]
    assert sorted(row.frame for row in rows) == sorted(table["frame"])


def test_the_stage_ends_with_the_message_alone(project):
    save_parameters(0.5, 0.5)
    with pytest.raises(SystemExit, match=r"^params.yaml: nerve.split: 20 subjects .*validation 0.5 and test 0.5"):
        split.main()
