"""`python -m service`: the service in the foreground."""

import argparse
import os
import sys

from service.card import Card
from service.errors import ModelFolderError

DRAIN_SECONDS = 15  # for requests under way when the service is told to stop


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service", description="Nerve masks of ultrasound frames over HTTP."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (3000)")
    arguments = parser.parse_args()

    from service.app import model_folder

    try:
        Card.read(model_folder())
    except ModelFolderError as fault:
        sys.exit(f"nervemask: {fault}")
    serve = [sys.executable, "-m", "bentoml", "serve", "service.app:Nervemask"]
    serve += ["--host", arguments.host, "--port", str(arguments.port)]
    serve += ["--timeout-graceful-shutdown", str(DRAIN_SECONDS)]
    os.execv(sys.executable, serve)


if __name__ == "__main__":
    main()
