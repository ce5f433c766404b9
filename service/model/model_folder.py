"""The place of the model folder."""

import os
from pathlib import Path


def model_folder() -> Path:
    """Return $NERVEMASK_MODEL, or models/champion beside the package: in the project's root, and inside the Bento."""
    return Path(os.environ.get("NERVEMASK_MODEL") or Path(__file__).parents[2] / "models" / "champion")
