"""docs/installing.md: its blocks, pasted one after another as they stand; and what they ask of an engine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.keys import read
from tests.test_readme import BLOCK, ROOT, Block

PAGE = (ROOT / "docs" / "installing.md").read_text()
BLOCKS = [Block(found["language"], found["text"], found["reason"]) for found in BLOCK.finditer(PAGE)]
# Notes what it is asked, in the place of an engine, and fails where a word of $FAILS is in it.
DOCKER = """#!/bin/sh
echo "$*" >> "$NOTES"
case "$*" in *"$FAILS"*) exit 1 ;; esac
"""


def reader(folder: Path) -> dict[str, str]:
    """The environment of somebody who pastes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NERVEMASK_", "COMPOSE_"))}
    return environment | {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def installed(model_folder, tmp_path_factory) -> Path:
    """The project's folder after all blocks that can be run."""
    if not shutil.which("promtool"):
        pytest.skip("there is no promtool here (prometheus)")
    root = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "deploy", root / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(model_folder, root / "models" / "champion")
    (root / "service").symlink_to(ROOT / "service")
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/activate").touch()  # the tests' environment is active
    lines = "".join(block.text for block in BLOCKS if not block.not_run)
    done = subprocess.run(["bash", "-ec", lines], cwd=root, env=reader(root), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def test_every_file_that_compose_wants_is_made_and_can_be_read_by_the_containers(installed) -> None:
    secrets = installed / "deploy" / "secrets"
    wanted = set(re.findall(r"\./secrets/(\w+\.?\w*)\}", (ROOT / "deploy" / "compose.yaml").read_text()))
    assert {path.name for path in secrets.iterdir()} >= wanted > {"metrics_key", "service.crt"}
    files = [path for path in secrets.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert secrets.stat().st_mode & 0o777 == 0o700 and (secrets / "keys").stat().st_mode & 0o777 == 0o755
    assert read(secrets / "keys" / "keys").keys() == {"ward-3-new", "prometheus"}


def test_a_champion_is_put_to_use(installed) -> None:
    serving = installed / "models" / "serving"
    assert serving.resolve().parent == installed / "models" and (serving / "card.json").exists()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.text.splitlines()[0])
def test_a_shell_can_read_it(block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def test_a_block_finds_what_it_names_wherever_the_one_before_ended() -> None:
    made = ("deploy/secrets", "deploy/backup", "deploy/digests.yaml")
    for block in BLOCKS:
        assert "cd " not in block.text
        for path in re.findall(r"\b(?:deploy|docs)/[\w./-]+", block.text):
            assert path.startswith(made) or (ROOT / path).exists(), path


def test_a_roll_out_that_is_pasted_is_not_undone_at_once() -> None:
    for block in BLOCKS:
        assert not ("rollout undo" in block.text and "apply" in block.text)


def asked(section: str, folder: Path, fails: str = "none") -> tuple[int, list[str]]:
    """How a section's first block for an engine ends, and what it asks of it, as long as nothing fails."""
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    (folder / "deploy" / "backup").mkdir(parents=True, exist_ok=True)
    (folder / "deploy" / "backup" / "s3.tar.gz.new").touch()  # what tar leaves
    found = BLOCK.finditer(PAGE, PAGE.index(f"\n## {section}\n"))
    block = next(block["text"] for block in found if "docker compose" in block["text"])
    environment = reader(folder) | {"NOTES": str(folder / "notes"), "FAILS": fails}
    status = subprocess.run(["bash", "-c", block], cwd=folder, env=environment).returncode
    notes = (folder / "notes").read_text()
    return status, re.findall(r"^compose (?:\S+)|^run\b|mlflow db upgrade", notes, re.M)


def test_a_database_is_upgraded_while_mlflow_stands(tmp_path) -> None:
    assert PAGE.index("Back up first.") < PAGE.index("mlflow db upgrade postgresql")
    steps = ["compose build", "compose stop", "compose run", "mlflow db upgrade", "compose up"]
    assert asked("Upgrade and rollback", tmp_path) == (0, steps)


def test_after_an_upgrade_that_failed_mlflow_stays_stopped(tmp_path) -> None:
    status, steps = asked("Upgrade and rollback", tmp_path, "db upgrade")
    assert status and steps[-1] == "mlflow db upgrade"


@pytest.mark.parametrize("fails", ["none", "run --rm", "compose stop"])
def test_after_a_backup_the_store_runs_whatever_happened(tmp_path, fails) -> None:
    status, steps = asked("Backup and restore", tmp_path, fails)
    assert bool(status) is (fails != "none")
    assert steps[0] == "compose exec" and steps[-1] == "compose start"
    assert (tmp_path / "deploy" / "backup" / "s3.tar.gz").exists() is (fails == "none")


def test_a_dump_that_fails_leaves_the_one_before(tmp_path) -> None:
    (tmp_path / "deploy" / "backup").mkdir(parents=True)
    (tmp_path / "deploy" / "backup" / "mlflow.dump").write_text("last week's")
    asked("Backup and restore", tmp_path, "pg_dump")
    assert (tmp_path / "deploy" / "backup" / "mlflow.dump").read_text() == "last week's"
