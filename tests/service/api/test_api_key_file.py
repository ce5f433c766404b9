"""The file of API keys: an invalid one is refused, and changes nothing while the service runs."""

from pathlib import Path

import pytest

from service.api.api_key_file import (
    ApiKeysError,
    KeyFile,
    check_api_keys,
    hash_key,
    read_key_hashes,
    warn_if_others_can_write,
    write_key_hashes,
)


@pytest.mark.parametrize("text", ["pacs", "pacs 123", f"pacs {'0' * 64}\npacs {'1' * 64}", f"a b {'0' * 64}"])
def test_an_invalid_file_is_refused_and_a_running_service_keeps_its_keys(tmp_path, text) -> None:
    path = tmp_path / "keys.txt"
    write_key_hashes(path, {"pacs": hash_key("the key")})
    key_file = KeyFile(path)
    assert key_file.find_name("the key") == "pacs"
    path.write_text(text)
    assert key_file.find_name("the key") == "pacs"
    with pytest.raises(ApiKeysError, match="line"):
        read_key_hashes(path)


def test_comments_and_empty_lines_are_allowed(tmp_path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"# of ward 3\n\npacs {'0' * 64}\n")
    assert read_key_hashes(path) == {"pacs": "0" * 64}


def test_an_unknown_key_has_no_name(tmp_path) -> None:
    path = tmp_path / "keys.txt"
    write_key_hashes(path, {"pacs": hash_key("the key")})
    assert KeyFile(path).find_name("another key") is None


@pytest.mark.parametrize(
    ("keys", "is_open", "message"),
    [(None, "", "no API keys are configured"), ("missing.txt", "", "cannot read"), ("empty.txt", "", "has no keys")],
)
def test_a_service_that_would_refuse_every_request_is_reported(tmp_path, monkeypatch, keys, is_open, message) -> None:
    (tmp_path / "empty.txt").touch()
    monkeypatch.setenv("NERVEMASK_OPEN", is_open)
    monkeypatch.setenv("NERVEMASK_KEYS", str(Path(tmp_path / keys)) if keys else "")
    with pytest.raises(ApiKeysError, match=message):
        check_api_keys()


def test_an_open_service_needs_no_keys(monkeypatch) -> None:
    monkeypatch.setenv("NERVEMASK_OPEN", "yes")
    monkeypatch.delenv("NERVEMASK_KEYS", raising=False)
    check_api_keys()


def test_a_file_that_cannot_be_read_is_a_problem_until_it_can(tmp_path, caplog) -> None:
    path = tmp_path / "keys" / "keys.txt"
    path.parent.mkdir()
    new, old = KeyFile(path), KeyFile(path)
    write_key_hashes(path, {"pacs": hash_key("the key")})
    assert old.find_name("the key") == "pacs"
    path.parent.rename(tmp_path / "away")
    for _ in range(3):
        assert new.find_problem() == ("keys", "there is no valid API key: their file cannot be read")
        assert old.find_problem() == ("old_keys", "the file of API keys cannot be read: the last keys stay valid")
    assert caplog.text.count("the API keys stay unchanged") == 2  # once for each
    (tmp_path / "away").rename(path.parent)  # the file itself has not changed
    assert (new.find_problem(), old.find_problem()) == (None, None)
    write_key_hashes(path, {})
    assert new.find_problem() == ("keys", "there is no valid API key")


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o644, False), (0o664, True), (0o646, True)])
def test_a_file_that_others_can_write_gets_a_warning(tmp_path, caplog, mode, is_warned) -> None:
    path = tmp_path / "keys.txt"
    write_key_hashes(path, {"pacs": hash_key("the key")})
    path.chmod(mode)
    warn_if_others_can_write(path)
    assert ("chmod go-w" in caplog.text) == is_warned
