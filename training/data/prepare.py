"""Stage prepare: decode frames and resize them to a candidate's network input, with the service's own functions.

`python -m training.data.prepare CANDIDATE` writes to data/prepared/CANDIDATE
  input.json             the network input as the model card has it, with the mean and deviation for normalisation
  train/, validation/    frames and masks in shards; see training/data/prepared_arrays.py
It does not write test frames, so a training cannot use them.
"""

from training.data.prepared_arrays import write_prepared_arrays
from training.data.split_table import rows_of_split
from training.workspace import nerve_parameters, paths
from training.workspace.dvc_matrix_item import stage_item
from training.workspace.output_checksums import check_outputs, output_folder


def main(name: str) -> None:
    candidate = nerve_parameters.read_candidate(name)
    check_outputs(paths.FRAMES, paths.SPLIT)
    splits = {split: rows_of_split(split) for split in ("train", "validation")}
    with output_folder(paths.PREPARED / name) as folder:
        write_prepared_arrays(folder, candidate.input, splits)


if __name__ == "__main__":
    main(stage_item())
