"""Stage ingest: check the frames and masks of `nerve.source` and write them in one layout to data/frames."""

import sys

from training.data.frame_mask_pair import UNRECORDED_SUBJECTS
from training.data.source_errors import SourceError
from training.data.source_ingestion import ingest_source
from training.workspace import nerve_parameters, paths


def main() -> None:
    try:
        rows, log = ingest_source(nerve_parameters.read_nerve_parameters(), paths.FRAMES)
    except SourceError as error:
        sys.exit(f"ingest: {error}")
    labelled = [row for row in rows if row.mask]
    subjects = {row.subject for row in labelled} - UNRECORDED_SUBJECTS
    without_nerve = sum(row.nerve_px == 0 for row in labelled)
    print(
        f"{len(labelled)} frames with masks of {f'{len(subjects)} subjects' if subjects else 'unrecorded subjects'}, "
        f"{without_nerve} without a nerve ({without_nerve / len(labelled):.1%}); "
        f"{len(rows) - len(labelled)} unlabelled; {len(log.left_out)} files left out (left_out.csv)"
    )


if __name__ == "__main__":
    main()
