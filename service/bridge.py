"""`python -m service.bridge`: store a DICOM Segmentation for each ultrasound instance in an Orthanc server."""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

import httpx

from service.clients.api_key_header import api_key_header
from service.clients.bridge_http_client import BridgeHttpClient, StopBridgeError
from service.clients.http_connection import ProxySettingsError
from service.clients.orthanc_bridge import OrthancBridge
from service.clients.printable_text import printable

log = logging.getLogger("nervemask.bridge")


class PrintableFormatter(logging.Formatter):
    """Writes each record in one line that is safe for a terminal: a record may hold a server's text."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m service.bridge",
        description="Store a DICOM Segmentation of the nerve for each ultrasound instance in an Orthanc server.",
        epilog="Orthanc's user is read from its URL, or from ORTHANC_USER and ORTHANC_PASSWORD. "
        "The service's API key is read from NERVEMASK_KEY.",
    )
    parser.add_argument(
        "--orthanc",
        type=parse_url,
        default="http://127.0.0.1:8042",
        help="URL of Orthanc (default: http://127.0.0.1:8042)",
    )
    parser.add_argument(
        "--service",
        type=parse_url,
        default="http://127.0.0.1:3000",
        help="URL of the service (default: http://127.0.0.1:3000)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("bridge.state"),
        help="file that keeps the position in Orthanc's changes (default: bridge.state)",
    )
    parser.add_argument("--once", action="store_true", help="process the stable studies and end")
    return parser.parse_args()


def parse_url(text: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> None:
    arguments = parse_arguments()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)  # pydicom's warnings quote the file
    logging.getLogger("httpx").setLevel(logging.WARNING)

    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    auth = None  # httpx reads a user and password in the URL itself
    if "ORTHANC_USER" in os.environ and not arguments.orthanc.username:
        auth = os.environ["ORTHANC_USER"], os.environ.get("ORTHANC_PASSWORD", "")
    try:
        orthanc = BridgeHttpClient("Orthanc", arguments.orthanc, auth, stop, arguments.once)
        service = BridgeHttpClient("the service", arguments.service, None, stop, arguments.once)
        service.client.headers.update(api_key_header())
        OrthancBridge(orthanc, service).run(arguments.state, arguments.once)
    except (ProxySettingsError, StopBridgeError, OSError) as error:
        if not stop.is_set():
            sys.exit(f"bridge: {printable(error)}")
        log.info("%s", error)


if __name__ == "__main__":
    main()
