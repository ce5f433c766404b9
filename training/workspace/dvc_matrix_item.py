"""The item that a stage with `matrix` or `foreach` works on: a candidate or an ablation."""

import os
import sys


def stage_item() -> str:
    """Return the argument of the command; without one, what follows "@" in DVC_STAGE, the name of the running stage.

    DVC gives `cmd` to a shell before any code of this project runs. A name of params.yaml there would be executed, so
    dvc.yaml writes none there.

    Raises SystemExit if there is neither.
    """
    if len(sys.argv) > 1:
        return sys.argv[1]
    _, separator, item = os.environ.get("DVC_STAGE", "").rpartition("@")
    if not separator:
        sys.exit(f"{sys.argv[0]}: give a name of params.yaml as the argument, or run the stage with `dvc repro`.")
    return item
