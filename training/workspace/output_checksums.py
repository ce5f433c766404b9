"""The folders that stages write and read, with the SHA-256 of their files.

DVC trusts its cache and the times of files: it takes a file with a flipped bit for the one that a stage wrote. So each
stage checks what it reads. `python -m training.workspace.repair` removes what is damaged.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from training.workspace.atomic_folder import atomic_folder
from training.workspace.provenance import file_digest, find_stage

CHECKSUMS = "sha256.json"  # in the folder: the SHA-256 of each other file, by its path there


class DamagedOutputError(SystemExit):
    """A stage's output is not as the stage wrote it. It ends the stage that reads it, with this message alone."""


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder as `atomic_folder` does, and write the SHA-256 of its files when the block ends."""
    with atomic_folder(folder) as unfinished:
        yield unfinished
        write_checksums(unfinished)


def write_checksums(folder: Path) -> None:
    """Write CHECKSUMS for all files below `folder`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name != CHECKSUMS]
    (folder / CHECKSUMS).write_text(json.dumps(_digests(folder, names), indent=1) + "\n")


def check_outputs(*folders: Path) -> None:
    """Check that all files are as their stage wrote them.

    folders: written with `output_folder`.

    Raises DamagedOutputError, which names the file and the remedy.
    """
    for folder in folders:
        if not (folder / CHECKSUMS).exists():
            stage = find_stage(folder)
            raise DamagedOutputError(
                f"{folder / CHECKSUMS} is missing: the stage that writes {folder} did not run, or an older version of "
                f"it did. Run {f'`dvc repro -f {stage}`' if stage else 'that stage'}, then repeat the command."
            )
        for file in damaged_files(folder):
            raise DamagedOutputError(
                f"{file} is not as its stage wrote it: its SHA-256 differs from that in {folder / CHECKSUMS}. The disk "
                "or DVC's cache is damaged, or somebody changed the file. Run `python -m training.workspace.repair`, "
                "then repeat the command."
            )


def damaged_files(folder: Path) -> list[Path]:
    """Return the files below `folder` that are missing, unreadable or changed; CHECKSUMS if it is no longer JSON."""
    try:
        expected = dict(json.loads((folder / CHECKSUMS).read_text()))
    except (OSError, ValueError, TypeError):
        return [folder / CHECKSUMS]
    digests = _digests(folder, list(expected))
    return [folder / name for name, digest in expected.items() if digests[name] != digest]


def _digests(folder: Path, names: list[str]) -> dict[str, str | None]:
    """Return the SHA-256 of each file; None if it cannot be read."""

    def digest(name: str) -> str | None:
        try:
            return file_digest(folder / name)
        except OSError:
            return None

    with ThreadPoolExecutor() as threads:
        return dict(zip(names, threads.map(digest, names), strict=True))
