"""A folder is there whole, or not at all."""

import pytest

from training.whole import whole


def test_a_fault_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "models"
    with whole(folder) as unfinished:
        (unfinished / "net").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole(folder) as unfinished:
        (unfinished / "net").write_text("half")
        raise KeyboardInterrupt
    assert (folder / "net").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path):
    (tmp_path / ".models.unfinished").mkdir()
    (tmp_path / ".models.unfinished" / "debris").write_text("half")
    with whole(tmp_path / "models") as unfinished:
        (unfinished / "net").write_text("new")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["net"]
