"""Remove damaged files, so that DVC makes them again.

`python -m training.workspace.repair` reads DVC's whole cache and all outputs in the project, and removes
- the files of the cache whose content is not that of their name, an MD5;
- the outputs with a file that is not as its stage wrote it.
Then `dvc repro` restores or makes what is missing.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dvc.repo import Repo

from training.workspace import paths
from training.workspace.output_checksums import CHECKSUMS, damaged_files

OUTPUTS = (paths.DATA, paths.MODELS, paths.REPORTS)
MD5_PATH = re.compile(r"([0-9a-f]{2})/([0-9a-f]{30})(\.dir)?")  # in the cache; .dir is the list of a folder's files


def damaged_objects(cache: Path) -> list[Path]:
    """Return the damaged files of DVC's cache.

    cache: the folder with a folder for the first two digits of each MD5.
    """

    def is_damaged(path: Path) -> bool:
        match = MD5_PATH.fullmatch(path.relative_to(cache).as_posix())
        try:
            return match is not None and _md5(path) != match[1] + match[2]
        except OSError:
            return True

    files = [path for path in cache.glob("*/*") if path.is_file()]
    with ThreadPoolExecutor() as threads:
        return [path for path, damaged in zip(files, threads.map(is_damaged, files), strict=True) if damaged]


def damaged_outputs() -> Iterator[Path]:
    """Yield the output folders with a damaged file."""
    for root in OUTPUTS:
        for checksums in sorted(root.rglob(CHECKSUMS)):
            if damaged_files(checksums.parent):
                yield checksums.parent


def main() -> None:
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
    damaged = [*damaged_objects(cache), *damaged_outputs()]
    for path in damaged:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(f"removed {path}")
    print("Run `dvc repro` for what is missing." if damaged else "Nothing is damaged.")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


if __name__ == "__main__":
    main()
