"""The progress of a training can be read in a terminal and in a log."""

import pytest
from rich.console import Console

pytestmark = pytest.mark.slow  # TensorFlow


def test_a_log_gets_a_line_for_each_epoch(capsys) -> None:
    from training.workspace.keras_callbacks import ProgressBar

    bar = ProgressBar("light", 2, {"Dice": "val_mask_dice"})
    bar.on_train_begin()
    for epoch in range(2):
        bar.on_epoch_end(epoch, {"loss": 0.5 - epoch / 10, "val_mask_dice": 0.8})
    bar.on_train_end()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:4] for line in lines] == [
        ["light", "epoch 1/2", "loss 0.500", "Dice 0.800"],
        ["light", "epoch 2/2", "loss 0.400", "Dice 0.800"],
    ]
    assert lines[1].endswith("0:00:00 elapsed, at most 0:00:00 left")


def test_a_terminal_gets_a_bar(capsys, monkeypatch) -> None:
    from training.workspace.keras_callbacks import ProgressBar

    monkeypatch.setattr(Console, "is_terminal", True)
    bar = ProgressBar("light", 2, {})
    bar.on_train_begin()
    bar.on_epoch_end(0, {"loss": 0.5})
    bar.on_train_end()
    assert "epoch 1/2" not in capsys.readouterr().out
    assert bar.progress.tasks[0].completed == 1
