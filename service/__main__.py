"""`python -m service`: the service in the foreground."""

import argparse
import os
import socket
import sys
from pathlib import Path

DRAIN_SECONDS = 15  # for requests under way when the service is told to stop
FILES = ("NERVEMASK_KEYS", "NERVEMASK_MODEL", "NERVEMASK_AUDIT", "NERVEMASK_SPOOL")  # the server works elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m service", description="Nerve masks of ultrasound frames over HTTP."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (3000)")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="PEM: listen with TLS (HTTPS)")
    parser.add_argument("--private-key", type=Path, metavar="FILE", help="PEM: of the certificate")
    parser.epilog = "Keys: python -m service.keys --help. Settings (NERVEMASK_...) are told in the README."
    arguments = parser.parse_args()
    if bool(arguments.certificate) != bool(arguments.private_key):
        parser.error("--certificate and --private-key belong together")
    tls = [arguments.certificate, arguments.private_key] if arguments.certificate else []
    try:
        address = free_address(arguments.host, arguments.port)
        lock(address)
        check_tls(*tls)
    except (OSError, OverflowError) as fault:
        where = f"{arguments.host} port {arguments.port}"
        sys.exit(f"nervemask: cannot listen on {where} ({fault}): choose another with --host and --port.")
    serve = ["serve", "service.app:Nervemask", "--working-dir", str(Path(__file__).parent.parent)]
    serve += ["--host", address, "--port", str(arguments.port)]
    serve += ["--timeout-graceful-shutdown", str(DRAIN_SECONDS)]
    if tls:
        serve += ["--ssl-certfile", str(tls[0].absolute()), "--ssl-keyfile", str(tls[1].absolute())]
    os.environ["BENTOML_HOME"] = str(bentoml_home() / f"port-{arguments.port}")
    for name in FILES:
        if (path := os.environ.get(name)) not in (None, "", "-"):
            os.environ[name] = os.path.abspath(path)
    from bentoml_cli.cli import cli  # reads the settings above when it is loaded

    cli(serve)


def lock(address: str) -> None:
    """Whom the app has to let in, in its environment. Ends the program where others could ask without a key."""
    import ipaddress

    from service.keys import KeysError, check

    if ipaddress.ip_address(address).is_loopback:
        os.environ.setdefault("NERVEMASK_METRICS", "open")
        if not os.environ.get("NERVEMASK_KEYS"):
            os.environ["NERVEMASK_OPEN"] = "yes"
    try:
        check()
    except KeysError as fault:
        sys.exit(f"nervemask: not listening on {address}: {fault}")


def check_tls(*files: Path) -> None:
    """Ends the program where they are no certificate and its private key: workers would fail on them for ever."""
    if not files:
        return
    import ssl

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files[0], files[1])
    except (OSError, ssl.SSLError) as fault:
        sys.exit(f"nervemask: {files[0]} and {files[1]} are no certificate and its private key ({fault}).")


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
