"""The commit of a run, or why there is none."""

import os
import subprocess
from pathlib import Path

import pytest

from training.workspace import provenance, tracking

NOBODY = 65534


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a git repository with a committed params.yaml. Only its own settings hold for git."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "params.yaml").write_text("a: 1\n")
    git(folder, "add", "params.yaml")
    git(folder, "commit", "-qm", "parameters")
    monkeypatch.chdir(folder)
    return folder


def test_a_commit_has_no_error(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert provenance.git_state() == (commit, False, "")
    assert "git.error" not in tracking.run_tags("phantom")
    (repository / "params.yaml").write_text("a: 2\n")
    assert provenance.git_state() == (commit, True, "")


def assert_no_commit(error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that the state, the tags of a run, and standard error say why there is no commit."""
    assert provenance.git_state() == ("", True, error)
    assert f"no commit: {error}\n" in capsys.readouterr().err
    tags = tracking.run_tags("phantom")
    assert (tags["git.commit"], tags["git.dirty"], tags["git.error"]) == ("", "true", error)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_the_repository_of_another_user(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (repository, *repository.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    assert_no_commit(provenance.OTHER_OWNER, capsys)
    assert str(repository) not in provenance.OTHER_OWNER


def test_no_repository(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert_no_commit("not a git repository (or any of the parent directories): .git", capsys)


def test_a_repository_without_the_project(repository: Path, monkeypatch, capsys) -> None:
    """Its commit is not the project's."""
    (repository / "copy").mkdir()
    monkeypatch.chdir(repository / "copy")
    assert_no_commit("pathspec 'params.yaml' did not match any file(s) known to git", capsys)


def test_no_git(repository: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert_no_commit("git is not installed", capsys)
