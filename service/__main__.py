"""`python -m service`: run the service in the foreground."""

import argparse
import ipaddress
import os
import socket
import ssl
import sys
import tempfile
from pathlib import Path

from service.api.api_key_file import ApiKeysError, check_api_keys
from service.resources.worker_count import worker_count

DRAIN_SECONDS = 15  # for running requests, after the signal to stop
# A client that sends its next request while the service closes the connection loses it. So the service waits longer
# than most clients do: httpx keeps an idle connection for 5 s, Java's HttpClient for 30 s, nginx as a proxy for 60 s.
KEEP_ALIVE_SECONDS = 75
PATH_VARIABLES = ("NERVEMASK_KEYS", "NERVEMASK_MODEL", "NERVEMASK_AUDIT", "NERVEMASK_SPOOL", "NERVEMASK_CERTIFICATE")


def main() -> None:
    """Check the options, then start BentoML's server."""
    parser = _argument_parser()
    arguments = parser.parse_args()
    worker_count()  # ends the program if the setting is wrong
    if bool(arguments.certificate) != bool(arguments.private_key):
        parser.error("use --certificate and --private-key together")
    try:
        address = resolve_address(arguments.host, arguments.port)
    except (OSError, OverflowError) as error:
        place = f"{arguments.host} port {arguments.port}"
        sys.exit(f"nervemask: cannot listen on {place} ({error}): choose another with --host and --port.")
    require_keys(address)
    options = ["--working-dir", str(Path(__file__).parent.parent), "--host", address, "--port", str(arguments.port)]
    options += ["--timeout-graceful-shutdown", str(DRAIN_SECONDS), "--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)]
    if arguments.certificate:
        check_certificate(arguments.certificate, arguments.private_key)
        os.environ["NERVEMASK_CERTIFICATE"] = str(arguments.certificate)  # its end is a metric
        options += ["--ssl-certfile", str(arguments.certificate.absolute())]
        options += ["--ssl-keyfile", str(arguments.private_key.absolute())]
    os.environ["BENTOML_HOME"] = str(make_bentoml_home(arguments.port))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the idle threads of NumPy's OpenBLAS would spin
    make_paths_absolute()
    from bentoml_cli.cli import cli  # it reads the environment when it is imported

    cli(["serve", "service.app:Nervemask", *options])


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve nerve masks of ultrasound frames over HTTP.",
        epilog="API keys: python -m service.keys --help. docs/serving.md describes the settings (NERVEMASK_...).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (3000)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="certificate in PEM format, for TLS (HTTPS)")
    parser.add_argument(
        "--private-key", type=Path, metavar="FILE", help="private key of the certificate, in PEM format"
    )
    return parser


def resolve_address(host: str, port: int) -> str:
    """Return the numeric address of a host, which BentoML requires. Raises OSError when the port is not free there."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    return str(address[0])


def require_keys(address: str) -> None:
    """Set the environment variables of authentication; on a loopback address keys are optional.

    Ends the program when no key is configured for another address.
    """
    if ipaddress.ip_address(address).is_loopback:
        os.environ.setdefault("NERVEMASK_METRICS", "open")
        if not os.environ.get("NERVEMASK_KEYS"):
            os.environ["NERVEMASK_OPEN"] = "yes"
    try:
        check_api_keys()
    except ApiKeysError as error:
        sys.exit(f"nervemask: cannot listen on {address}: {error}")


def check_certificate(certificate: Path, private_key: Path) -> None:
    """End the program when the files are unusable: with them, the workers would fail again and again."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError) as error:
        sys.exit(f"nervemask: cannot use the certificate {certificate} with the private key {private_key} ({error}).")


def bentoml_home() -> Path:
    """Return BentoML's folder. Each port needs its own: BentoML deletes the metrics there when a server starts."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")


def make_bentoml_home(port: int) -> Path:
    """Return BentoML's folder for a port, which this makes. Ends the program if it cannot be written."""
    folder = bentoml_home() / f"port-{port}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        sys.exit(f"nervemask: cannot write to {folder} ({error.strerror}): set BENTOML_HOME to a writable folder.")


def make_paths_absolute() -> None:
    """Make paths in environment variables absolute: the server runs in another folder. `-` is standard output."""
    for name in PATH_VARIABLES:
        if (path := os.environ.get(name)) not in (None, "", "-"):
            os.environ[name] = os.path.abspath(path)


if __name__ == "__main__":
    main()
