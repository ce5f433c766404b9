"""usgra-seg: its download from a git repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.data.sources.usgra_dataset import REAL, ROOT, needs_real_data, write_dataset
from training.data.source_errors import IngestLog, SourceError
from training.data.sources import usgra


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "sets/dataset")


@pytest.fixture
def repository(tmp_path) -> tuple[Path, str]:
    """A git repository with the data set, and the commit before a frame was removed."""
    folder = tmp_path / "repository"
    write_dataset(folder / "dataset", range(1, 4))

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(
            ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "the data set")
    commit = git("rev-parse", "HEAD")
    (folder / "dataset/images/0001.png").unlink()
    git("commit", "-qam", "one frame less")
    return folder, commit


@pytest.mark.slow
@pytest.mark.parametrize("digits", [7, 40])
def test_fetch_returns_the_data_set_at_the_commit(repository, tmp_path, capfd, digits):
    folder, commit = repository
    usgra.fetch(tmp_path / "fetched", str(folder), commit[:digits])
    pairs = usgra.pairs(tmp_path / "fetched", IngestLog(skip=False))
    assert [pair.number for pair in pairs] == [1, 2, 3]
    assert not (folder / "dataset/images/0001.png").exists()
    assert capfd.readouterr() == ("", ""), "it prints nothing"


AUDITED_FETCH = """
import sys
from pathlib import Path
from training.data.sources import usgra
def print_event(event, arguments):
    if event == "socket.connect" or event == "subprocess.Popen":
        print(event, arguments)
sys.addaudithook(print_event)
usgra.fetch(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


@pytest.mark.slow
def test_fetch_sends_no_analytics(repository, tmp_path):
    """It starts no process and opens no connection, even if DVC's analytics are not switched off."""
    folder, commit = repository
    environment = {name: value for name, value in os.environ.items() if "ANALYTICS" not in name}
    fetch = subprocess.run(
        [sys.executable, "-c", AUDITED_FETCH, tmp_path / "fetched", folder, commit],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (fetch.returncode, fetch.stdout, fetch.stderr) == (0, "", "")
    assert (tmp_path / "fetched/images/0001.png").is_file()


def test_the_public_data_set_is_pinned_by_a_full_commit_and_a_digest_of_each_frame_and_mask() -> None:
    assert re.fullmatch("[0-9a-f]{40}", usgra.COMMIT)
    lines = [line.split() for line in usgra.DIGESTS.read_text().splitlines()]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest, _ in lines)
    names = {name for _, name in lines}
    images = {name for name in names if name.startswith("images/")}
    assert len(images) == 204 and names == images | {name.replace("images/", "masks/") for name in images}


@pytest.mark.parametrize("change", [None, "image", "mask", "missing mask", "another pair"])
def test_a_download_with_other_files_than_listed_is_refused(dataset, tmp_path, change) -> None:
    files = sorted(
        path.relative_to(dataset).as_posix() for kind in ("images", "masks") for path in (dataset / kind).iterdir()
    )
    digests = tmp_path / "listed.sha256"
    digests.write_text(subprocess.run(["sha256sum", *files], cwd=dataset, capture_output=True, text=True).stdout)
    image, mask = dataset / files[0], dataset / files[-1]
    if change in ("image", "mask"):
        file = image if change == "image" else mask
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif change == "missing mask":
        mask.unlink()
    elif change == "another pair":
        shutil.copy(image, dataset / "images/9999.png")
    if change is None:
        usgra.check_download(dataset, digests)
        return
    with pytest.raises(SourceError, match=r"differs from the digests in listed.sha256"):
        usgra.check_download(dataset, digests)


@needs_real_data
def test_the_real_data_set_has_the_listed_digests() -> None:
    usgra.check_download(REAL)


@pytest.mark.parametrize("missing", ["repository", "commit", "folder"])
def test_a_failed_fetch_explains_how_to_download_by_hand(repository, tmp_path, missing):
    folder, commit = repository
    if missing == "repository":
        folder = tmp_path / "nowhere"
    elif missing == "commit":
        commit = "0" * 40
    else:
        folder, commit = empty_repository(tmp_path / "empty")
    with pytest.raises(SourceError, match=r"cannot be downloaded \(.+\)") as raised:
        usgra.fetch(tmp_path / "fetched", str(folder), commit)
    assert f"git clone {folder}" in raised.value.remedy
    assert "nerve.path" in raised.value.remedy
    assert not (tmp_path / "fetched").exists()


def empty_repository(folder: Path) -> tuple[Path, str]:
    folder.mkdir()
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "nothing")):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return folder, "HEAD"
