"""`python -m service.client`: send frames and cines to a running service and write its responses to files."""

import argparse
import os
import sys
from pathlib import Path

from service.clients.output_files import OUTPUT_KINDS, ClientError, OutputFiles, plan_outputs
from service.clients.printable_text import print_problem

DEFAULT_SERVER = "http://127.0.0.1:3000"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m service.client",
        description="Send frames and cines to a running service, and write their nerve masks to files.",
        epilog="The API key is read from NERVEMASK_KEY. Exit status: 0 if all frames got a mask, 1 if some failed "
        "(their names are printed), 2 for wrong arguments or an unreachable service.",
    )
    parser.add_argument("frames", nargs="+", type=Path, help="pictures, DICOM files or videos, or folders of them")
    parser.add_argument("--out", required=True, type=Path, help="the output file, or the output folder")
    parser.add_argument(
        "--as", dest="kind", choices=OUTPUT_KINDS, help="kind of output (default: from the suffix of --out, or mask)"
    )
    parser.add_argument(
        "--min-confidence",
        type=float,
        metavar="0..1",
        help="write an empty mask where the confidence is lower (default: 0, for DICOM Segmentations 0.5)",
    )
    parser.add_argument(
        "--smooth", action="store_true", help="smooth the masks of a cine over time (default: each frame alone)"
    )
    parser.add_argument(
        "--outlines",
        action="store_true",
        help="add an inner and an outer outline with a guarantee, to overlays, JSON and DICOM Segmentations",
    )
    parser.add_argument("--at-once", type=int, default=4, help="number of files in flight (default: 4)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing outputs (default: keep them, so that an interrupted batch goes on)",
    )
    parser.add_argument(
        "--server",
        default=os.environ.get("NERVEMASK_SERVER") or DEFAULT_SERVER,
        help=f"address of the service (default: NERVEMASK_SERVER, or {DEFAULT_SERVER})",
    )
    arguments = parser.parse_args()
    if arguments.min_confidence is not None and not 0 <= arguments.min_confidence <= 1:
        parser.error("--min-confidence must be from 0 to 1")
    if arguments.at_once < 1:
        parser.error("--at-once must be at least 1")
    return arguments


def answer_parameters(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the query parameters of the service that the arguments ask for."""
    parameters = {}
    if arguments.min_confidence is not None:
        parameters["min_confidence"] = str(arguments.min_confidence)
    for flag in ("smooth", "outlines"):
        if getattr(arguments, flag):
            parameters[flag] = "true"
    return parameters


def main() -> None:
    arguments = parse_arguments()
    try:
        plan = plan_outputs(arguments.frames, arguments.out, arguments.kind)
        if arguments.outlines and plan.kind in (OUTPUT_KINDS["mask"], OUTPUT_KINDS["geojson"]):
            raise ClientError("a mask and GeoJSON cannot contain outlines: use --as overlay, json or dicom")
        files = OutputFiles(plan, arguments.overwrite)
        # Imported here because httpx and rich would slow down --help.
        from service.clients.batch_client import segment_files

        kind = plan.kind.with_parameters(answer_parameters(arguments))
        failures = segment_files(arguments.server, kind, files, arguments.at_once)
    except (ClientError, OSError) as error:
        print_problem(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
