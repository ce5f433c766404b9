"""Stage mnist: write MNIST's four IDX files to data/mnist, from the first place that has them."""

import sys

from training.data.source_errors import SourceError
from training.data.sources.mnist import fetch
from training.workspace import digits_parameters, paths
from training.workspace.output_checksums import output_folder


def main() -> None:
    try:
        files = fetch(paths.project_root() / digits_parameters.read_digits_parameters().path)
    except SourceError as error:
        sys.exit(f"mnist: {error}")
    with output_folder(paths.MNIST) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
    print(f"{paths.MNIST}: 60,000 training digits and 10,000 test digits, all files with the expected md5")


if __name__ == "__main__":
    main()
