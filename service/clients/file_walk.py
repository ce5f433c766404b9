"""Walk the files below a folder, without passing over what cannot be read."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk_files(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield all files below a folder, those in linked folders too.

    on_error: called for each folder that cannot be listed.
    """
    visited = set()
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        visited.add(os.path.realpath(parent))
        folders[:] = [name for name in folders if os.path.realpath(Path(parent, name)) not in visited]  # no loops
        for name in names:
            yield Path(parent, name)
