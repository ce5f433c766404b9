"""The shell blocks of docs/deployment.md run as they are, one after another, and call Docker in the right order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.api.api_key_file import read_key_hashes
from tests.docs.test_examples import BLOCK, ROOT, Block

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "deployment.md").read_text()
BLOCKS = [Block(match["language"], match["text"], match["reason"]) for match in BLOCK.finditer(PAGE)]
# A fake `docker`. It appends its arguments to $CALLS, and fails if they contain $FAILING.
FAKE_DOCKER = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *"$FAILING"*) exit 1 ;; esac
"""


def shell_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a reader who runs the blocks, with the programs in `folder` first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NERVEMASK_", "COMPOSE_"))}
    return environment | {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def installed(model_folder, tmp_path_factory) -> Path:
    """The project folder after all blocks that a test can run."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    root = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "deploy", root / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(model_folder, root / "models" / "champion")
    (root / "service").symlink_to(ROOT / "service")
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/activate").touch()  # the tests' environment is active
    script = "".join(block.text for block in BLOCKS if not block.not_run)
    completed = subprocess.run(
        ["bash", "-ec", script], cwd=root, env=shell_environment(root), capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return root


def test_the_blocks_make_every_secret_file_of_compose_readable_for_the_containers(installed) -> None:
    secrets = installed / "deploy" / "secrets"
    required = set(re.findall(r"\./secrets/(\w+\.?\w*)\}", (ROOT / "deploy" / "compose.yaml").read_text()))
    assert {path.name for path in secrets.iterdir()} >= required > {"metrics_key", "service.crt"}
    files = [path for path in secrets.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert secrets.stat().st_mode & 0o777 == 0o700 and (secrets / "keys").stat().st_mode & 0o777 == 0o755
    assert read_key_hashes(secrets / "keys" / "keys").keys() == {"ward-3-new", "prometheus"}


def test_the_blocks_promote_a_champion(installed) -> None:
    serving = installed / "models" / "serving"
    assert serving.resolve().parent == installed / "models" and (serving / "card.json").exists()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.text.splitlines()[0])
def test_a_block_is_valid_shell_code(block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def test_the_paths_of_a_block_exist_from_the_project_folder() -> None:
    generated = ("deploy/secrets", "deploy/backup")
    for block in BLOCKS:
        assert "cd " not in block.text
        for path in re.findall(r"\b(?:deploy|docs)/[\w./-]+", block.text):
            assert path.startswith(generated) or (ROOT / path).exists(), path


def test_no_block_both_applies_and_undoes_a_rollout() -> None:
    for block in BLOCKS:
        assert not ("rollout undo" in block.text and "apply" in block.text)


def run_docker_block(section: str, folder: Path, failing: str = "none") -> tuple[int, list[str]]:
    """Run a section's first block with `docker compose` against a fake docker. Return its status and docker's calls.

    failing: docker fails if its arguments contain this text.
    """
    (folder / "docker").write_text(FAKE_DOCKER)
    (folder / "docker").chmod(0o755)
    (folder / "deploy" / "backup").mkdir(parents=True, exist_ok=True)
    (folder / "deploy" / "backup" / "s3.tar.gz.new").touch()  # the file that tar writes
    matches = BLOCK.finditer(PAGE, PAGE.index(f"\n## {section}\n"))
    block = next(match["text"] for match in matches if "docker compose" in match["text"])
    environment = shell_environment(folder) | {"CALLS": str(folder / "calls"), "FAILING": failing}
    status = subprocess.run(["bash", "-c", block], cwd=folder, env=environment).returncode
    calls = (folder / "calls").read_text()
    return status, re.findall(r"^compose (?:\S+)|^run\b|mlflow db upgrade", calls, re.M)


def test_the_database_upgrade_runs_while_mlflow_is_stopped(tmp_path) -> None:
    assert PAGE.index("Back up first.") < PAGE.index("mlflow db upgrade postgresql")
    steps = ["compose build", "compose stop", "compose run", "mlflow db upgrade", "compose up"]
    assert run_docker_block("Upgrade and rollback", tmp_path) == (0, steps)


def test_mlflow_stays_stopped_after_a_failed_upgrade(tmp_path) -> None:
    status, steps = run_docker_block("Upgrade and rollback", tmp_path, "db upgrade")
    assert status and steps[-1] == "mlflow db upgrade"


@pytest.mark.parametrize("failing", ["none", "run --rm", "compose stop"])
def test_the_store_runs_after_every_backup(tmp_path, failing) -> None:
    status, steps = run_docker_block("Backup and restore", tmp_path, failing)
    assert bool(status) is (failing != "none")
    assert steps[0] == "compose exec" and steps[-1] == "compose start"
    assert (tmp_path / "deploy" / "backup" / "s3.tar.gz").exists() is (failing == "none")


def test_a_failed_dump_keeps_the_last_one(tmp_path) -> None:
    (tmp_path / "deploy" / "backup").mkdir(parents=True)
    (tmp_path / "deploy" / "backup" / "mlflow.dump").write_text("last week's")
    run_docker_block("Backup and restore", tmp_path, "pg_dump")
    assert (tmp_path / "deploy" / "backup" / "mlflow.dump").read_text() == "last week's"
