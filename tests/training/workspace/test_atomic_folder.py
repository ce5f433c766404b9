"""An atomic folder is complete or absent."""

import pytest

from training.workspace.atomic_folder import atomic_folder


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "models"
    with atomic_folder(folder) as unfinished:
        (unfinished / "net").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as unfinished:
        (unfinished / "net").write_text("half")
        raise KeyboardInterrupt
    assert (folder / "net").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".models.unfinished").mkdir()
    (tmp_path / ".models.unfinished" / "debris").write_text("half")
    with atomic_folder(tmp_path / "models") as unfinished:
        (unfinished / "net").write_text("new")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["net"]
