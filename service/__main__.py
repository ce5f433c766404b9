"""`python -m service`: the service in the foreground."""

import argparse
import os
import socket
import sys
from pathlib import Path

from service.card import Card, champion_folder
from service.errors import ModelFolderError

DRAIN_SECONDS = 15  # for requests under way when the service is told to stop


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service", description="Nerve masks of ultrasound frames over HTTP."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (3000)")
    arguments = parser.parse_args()
    try:
        Card.read(champion_folder())
        address = free_address(arguments.host, arguments.port)
    except ModelFolderError as fault:
        sys.exit(f"nervemask: {fault}")
    except (OSError, OverflowError) as fault:
        where = f"{arguments.host} port {arguments.port}"
        sys.exit(f"nervemask: cannot listen on {where} ({fault}): choose another with --host and --port.")
    serve = [sys.executable, "-m", "bentoml", "serve", "service.app:Nervemask"]
    serve += ["--working-dir", str(Path(__file__).parent.parent)]
    serve += ["--host", address, "--port", str(arguments.port)]
    serve += ["--timeout-graceful-shutdown", str(DRAIN_SECONDS)]
    os.environ["BENTOML_HOME"] = str(bentoml_home() / f"port-{arguments.port}")
    os.execv(sys.executable, serve)


def bentoml_home() -> Path:
    """BentoML keeps its metrics in its home, where a server that starts takes them from one that runs."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")


def free_address(host: str, port: int) -> str:
    """`host` as the numeric address that BentoML wants. Raises OSError where nobody can listen on it at `port`."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    return str(address[0])


if __name__ == "__main__":
    main()
