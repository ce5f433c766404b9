"""`python -m service.champion`: change the symbolic link NERVEMASK_MODEL to the model folder that the service serves.

python -m service.champion promote FOLDER    serve this model folder, if it passes its self-test
python -m service.champion rollback          serve the previous champion
"""

import argparse
import sys
from pathlib import Path

from service.api.model_reload import promote, rollback
from service.errors import ModelFolderError
from service.model.model_folder import model_folder


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service.champion",
        description="Change the champion: the model folder that the symbolic link NERVEMASK_MODEL points to.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    promote_parser = commands.add_parser("promote", help="serve another model folder, if it passes its self-test")
    promote_parser.add_argument("folder", type=Path, help="the model folder")
    commands.add_parser("rollback", help="serve the previous champion")
    arguments = parser.parse_args()
    link = model_folder()
    try:
        if arguments.command == "promote":
            promote(link, arguments.folder.resolve())
        else:
            rollback(link)
    except (ModelFolderError, OSError) as error:
        sys.exit(f"nervemask: {error}")
    print(f"{link} points to {link.resolve()}")


if __name__ == "__main__":
    main()
