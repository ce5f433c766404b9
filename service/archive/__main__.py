"""`python -m service.archive`: segment an archive of ultrasound files on this machine or on a Ray cluster."""

import argparse
import os
import sys
import traceback
from pathlib import Path

from service.archive.locations import SourceError, resolve_source
from service.archive.segment_files import OUTPUT_KINDS
from service.clients.printable_text import print_problem
from service.errors import ModelFolderError
from service.model.card import Card
from service.model.model_folder import model_folder


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m service.archive",
        description="Segment an archive of ultrasound files: an output file for each frame, and a table in Parquet. "
        "The model is the one in NERVEMASK_MODEL. Run it again to continue.",
        epilog="Exit status: 0 if all frames have a mask, 1 if some failed (the table says which and why), 2 if "
        "the job cannot run. DICOMweb: DICOMWEB_USER and DICOMWEB_PASSWORD, or DICOMWEB_TOKEN.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder, file, CSV or Parquet list (column path), s3://bucket/prefix, or DICOMweb query "
        "(https://pacs/dicom-web/instances?StudyDate=20260101-20261231)",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the output folder")
    parser.add_argument("--as", dest="kind", choices=OUTPUT_KINDS, default="mask", help="output files (default: mask)")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        default=os.environ.get("RAY_ADDRESS"),
        help="Ray cluster, such as ray-head:6379 (default: RAY_ADDRESS, or Ray starts on this machine)",
    )
    parser.add_argument("--keep-paths", action="store_true", help="write the files' paths into the table")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        sources = [resolve_source(source) for source in arguments.sources]
        Card.read(model_folder())
        arguments.out.mkdir(parents=True, exist_ok=True)
        from service.archive.ray_data_job import JobError, run_job  # Ray takes a second to load
    except ImportError as error:
        print_problem(f"{error.name} is not installed: pip install 'nervemask[cluster]'")
        sys.exit(2)
    except (SourceError, ModelFolderError, OSError) as error:
        print_problem(error)
        sys.exit(2)
    try:
        failed = run_job(sources, arguments.out, arguments.kind, arguments.ray, arguments.keep_paths)
    except (JobError, OSError) as error:
        print_problem(error)
        sys.exit(2)
    except Exception:  # Python itself would exit with 1, which means that some frames failed
        traceback.print_exc()
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
