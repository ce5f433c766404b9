"""A stage's output whose bytes differ from those that the stage wrote is an error, also when its time is the same."""

import json
import os
from pathlib import Path

import pytest

from training.workspace.output_checksums import CHECKSUMS, DamagedOutputError, check_outputs, output_folder


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output with two files, as a stage writes it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("data/output")
    with output_folder(folder) as unfinished:
        (unfinished / "masks").mkdir()
        (unfinished / "masks/神经_1.png").write_bytes(b"mask")
        (unfinished / "table.csv").write_bytes(b"a,b\n")
    return folder


def flip_bit(file: Path) -> None:
    """Flip a bit in the middle of a file and keep its time."""
    status, data = file.stat(), bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_unchanged_output_passes(output: Path) -> None:
    check_outputs(output)
    assert json.loads((output / CHECKSUMS).read_text()).keys() == {"masks/神经_1.png", "table.csv"}


@pytest.mark.parametrize("name", ["masks/神经_1.png", "table.csv"])
@pytest.mark.parametrize(
    "damage", [flip_bit, Path.unlink, lambda file: os.truncate(file, 1)], ids=["bit", "gone", "cut"]
)
def test_the_error_names_the_damaged_file_and_the_remedy(output: Path, name: str, damage) -> None:
    damage(output / name)
    with pytest.raises(DamagedOutputError, match=r"SHA-256 .* `python -m training.workspace.repair`") as error:
        check_outputs(output)
    assert str(error.value).startswith(f"{output / name} is not as its stage wrote it")


def test_a_damaged_list_of_checksums_is_an_error(output: Path) -> None:
    content = (output / CHECKSUMS).read_bytes()
    for position in range(len(content)):
        (output / CHECKSUMS).write_bytes(content[:position] + bytes([content[position] ^ 2]) + content[position + 1 :])
        with pytest.raises(DamagedOutputError, match="is not as its stage wrote it"):
            check_outputs(output)


def test_the_error_of_a_missing_list_names_the_stage_to_repeat(output: Path) -> None:
    (output / CHECKSUMS).unlink()
    Path("dvc.lock").write_text(json.dumps({"stages": {"ingest": {"outs": [{"path": "data/output", "md5": "1"}]}}}))
    with pytest.raises(DamagedOutputError, match=r"output/sha256.json is missing.* `dvc repro -f ingest`"):
        check_outputs(output)
