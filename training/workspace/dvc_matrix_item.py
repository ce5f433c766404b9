"""The item that a stage with `matrix` or `foreach` works on: a candidate, a candidate's fold, an ablation."""

import os
import sys


def stage_item() -> str:
    """Return the arguments of the command; without any, what follows "@" in DVC_STAGE, the name of the running stage.

    Several arguments are joined with "-", as DVC joins the values of a matrix: "deep-1".

    DVC gives `cmd` to a shell before any code of this project runs. A name of params.yaml there would be executed, so
    dvc.yaml writes none there.

    Raises SystemExit if there is neither.
    """
    if len(sys.argv) > 1:
        return "-".join(sys.argv[1:])
    _, separator, item = os.environ.get("DVC_STAGE", "").rpartition("@")
    if not separator:
        sys.exit(f"{sys.argv[0]}: give a name of params.yaml as the argument, or run the stage with `dvc repro`.")
    return item
