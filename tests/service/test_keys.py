"""`python -m service.keys` adds, lists and removes API keys."""

import sys
from pathlib import Path

import pytest

from service import keys
from service.api.api_key_file import KeyFile


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NERVEMASK_KEYS: a file that does not exist yet."""
    monkeypatch.setenv("NERVEMASK_KEYS", str(tmp_path / "keys.txt"))
    return tmp_path / "keys.txt"


@pytest.fixture
def run(monkeypatch, capsys):
    """run(*arguments): the standard output of the command."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["keys", *arguments])
        keys.main()
        return capsys.readouterr().out.strip()

    return run


def test_add_prints_the_key_and_stores_only_its_hash(path, run) -> None:
    key = run("add", "pacs")
    assert KeyFile(path).find_name(key) == "pacs"
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_changed_file_keeps_its_mode(path, run) -> None:
    run("add", "pacs")
    path.chmod(0o444)  # for another user in a container
    run("add", "ward-3")
    assert path.stat().st_mode & 0o777 == 0o444


def test_list_prints_the_names(path, run) -> None:
    run("add", "pacs")
    run("add", "ward-3")
    assert run("list") == "pacs\nward-3"


def test_a_removed_key_is_no_longer_valid(path, run) -> None:
    key = run("add", "pacs")
    run("remove", "pacs")
    assert KeyFile(path).find_name(key) is None


@pytest.mark.parametrize(
    ("arguments", "message"), [(("add", "pacs"), "already has a key 'pacs'"), (("remove", "x"), "has no key 'x'")]
)
def test_a_wrong_name_changes_nothing(path, run, arguments, message) -> None:
    run("add", "pacs")
    before = path.read_text()
    with pytest.raises(SystemExit, match=message):
        run(*arguments)
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["", "a b", "ä" * 65, "a "])
def test_a_name_has_up_to_64_letters_digits_and_signs(path, run, name) -> None:
    with pytest.raises(SystemExit) as ended:
        run("add", name)
    assert ended.value.code == 2
    assert not path.exists()


def test_without_a_key_file_the_command_says_what_to_set(monkeypatch, run, capsys) -> None:
    monkeypatch.delenv("NERVEMASK_KEYS", raising=False)
    with pytest.raises(SystemExit):
        run("list")
    assert "set NERVEMASK_KEYS" in capsys.readouterr().err
