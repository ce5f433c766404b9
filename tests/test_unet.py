"""The nets and their training, on tiny real data."""

import numpy as np
import pandas as pd
import pytest

from training.parameters import Candidate, InputSize, Net, Phase, Recipe, candidate
from training.recipe import learning_rate, settle
from training.refit import as_judged
from training.teachers import softened
from training.train_unet import export, teachable, train

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and tf2onnx's own

TINY = Net(filters=[8, 16, 32], stem=2, batch_norm=True, heads=["mask", "presence", "vessel"])
SIZE = InputSize(height=32, width=48, normalisation="frame")


def discs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright disc in every second frame: frames float32 (N, 32, 48), masks uint8 (N, 32, 48, 1)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :48]
    frames = rng.normal(0, 0.5, (count, 32, 48)).astype(np.float32)
    masks = np.zeros((count, 32, 48, 1), np.uint8)
    for i in range(0, count, 2):
        y, x = rng.integers(10, 22), rng.integers(10, 38)
        masks[i, ..., 0] = (rows - y) ** 2 + (columns - x) ** 2 < 36
        frames[i] += 2.0 * masks[i, ..., 0]
    return frames, masks


def recipe(epochs: int, **changes) -> Recipe:
    phases = [Phase(epochs=epochs, learning_rate=1e-2, decay="cosine")]
    return Recipe(**{"loss": "cross_entropy_dice", "batch": 8, "steps": 8, "phases": phases} | changes)


def test_the_lectures_net_has_the_lectures_weights():
    from training.unet import build

    lecture = candidate("lecture")
    assert build(lecture.net, lecture.input).count_params() == 7_759_521


def test_the_lectures_recipe_is_the_lectures():
    phases = candidate("lecture").recipe.phases
    assert [learning_rate(phases, epoch) for epoch in (0, 49, 50, 69)] == [1e-5, 1e-5, 1e-6, 1e-6]


@pytest.mark.parametrize("name", ["lecture", "light", "deep", "large"])
def test_every_candidate_can_be_trained_and_answers_at_its_input_s_size(name):
    chosen = candidate(name)
    height, width = chosen.input.height, chosen.input.width
    frames = np.random.default_rng(0).normal(size=(2, height, width)).astype(np.float32)
    masks = np.zeros((2, height, width, 2), np.uint8)
    masks[0, 40:60, 30:70, 0] = masks[1, 10:30, 20:40, 1] = 1
    short = chosen.recipe.model_copy(update={"batch": 2, "steps": 1, "phases": [Phase(epochs=1, learning_rate=1e-3)]})
    sides = {"train": (frames, masks), "validation": (frames, masks)}
    model, history = train(chosen.model_copy(update={"recipe": short}), sides, seed=1)
    assert np.isfinite(history["val_loss"]).all()
    answers = model(frames[..., np.newaxis])
    assert tuple(answers["mask"].shape) == (2, height, width, 1)
    assert tuple(answers["presence"].shape) == (2, 1)


@pytest.mark.parametrize("change", [{}, {"gated": True}, {"heads": ["mask"]}])
def test_one_batch_is_learnt_by_heart(change):
    batch = discs(8)
    _, history = train(
        Candidate(input=SIZE, mirrored=False, net=TINY.model_copy(update=change), recipe=recipe(20)),
        {"train": batch, "validation": batch},
        seed=1,
    )
    assert history["val_mask_dice"].iloc[-1] >= 0.95
    assert ("val_presence_loss" in history) is ("presence" in (change.get("heads") or TINY.heads))
    assert history.get("val_presence_loss", pd.Series(0.0)).iloc[-1] < 0.1


@pytest.mark.parametrize("nerve", [0, 1])
def test_presence_is_read_off_the_mask_where_no_frame_or_each_one_holds_a_nerve(nerve):
    drawn = np.full((2, 4, 4, 2), nerve, np.uint8)
    assert teachable(["mask", "presence", "vessel"], drawn) == ["mask", "vessel"]
    drawn[0, ..., 0] = 1 - nerve
    assert teachable(["mask", "presence", "vessel"], drawn) == ["mask", "presence", "vessel"]
    assert teachable(["mask", "presence", "vessel"], drawn[..., :1]) == ["mask", "presence"]


def test_a_refit_learns_presence_where_the_judged_net_did():
    light = candidate("light")
    for column, learns in (("presence_loss", True), ("mask_loss", False)):
        again = as_judged(light, pd.DataFrame({column: [0.1]}))
        assert ("presence" in again.net.heads) is learns
        assert again.recipe.patience is None


def test_the_same_seed_gives_the_same_dice():
    sides = {"train": discs(16), "validation": discs(8, seed=1)}
    moved = recipe(4, average=0.9, patience=3, augment=candidate("light").recipe.augment)
    chosen = Candidate(input=SIZE, mirrored=False, net=TINY, recipe=moved)
    dices = [train(chosen, sides, seed=5)[1]["val_mask_dice"].to_numpy() for _ in range(2)]
    np.testing.assert_allclose(dices[0], dices[1], atol=1e-3)


def test_early_stopping_keeps_the_best_weights():
    from training.losses import dice

    sides = {"train": discs(16), "validation": discs(8, seed=1)}
    wild = [Phase(epochs=4, learning_rate=1e-2), Phase(epochs=6, learning_rate=3.0)]  # the second phase ruins it
    model, history = train(
        Candidate(input=SIZE, mirrored=False, net=TINY, recipe=recipe(1, phases=wild, patience=3)), sides, seed=1
    )
    assert len(history) < 10
    frames, masks = sides["validation"]
    predicted = model(frames[..., np.newaxis].astype(np.float32))["mask"]
    kept = float(np.mean(dice(masks.astype(np.float32), predicted)))
    assert history["val_mask_dice"].iloc[-1] < 0.6
    assert kept >= history["val_mask_dice"].max() - 0.02


def test_phantom_frames_come_before_the_first_epoch(monkeypatch):
    from training import simulated

    monkeypatch.setattr(simulated, "SUBJECTS", 2)
    frames, masks = simulated.simulated(SIZE, 2)
    assert (frames.shape, frames.dtype, masks.shape, masks.dtype) == ((8, 32, 48), np.float32, (8, 32, 48, 2), np.uint8)
    assert abs(frames.mean()) < 0.01
    assert masks.any(axis=(0, 1, 2)).all()
    still = [Phase(epochs=1, learning_rate=0.0)]
    sides = {"train": discs(8), "validation": discs(8, seed=1)}

    def weights(epochs: int) -> np.ndarray:
        chosen = Candidate(input=SIZE, mirrored=False, net=TINY, recipe=recipe(1, phases=still, simulated=epochs))
        return np.concatenate([np.ravel(w) for w in train(chosen, sides, seed=1)[0].get_weights()])

    assert np.abs(weights(1) - weights(0)).max() > 1e-4


def test_hidden_parts_are_drawn_before_any_mask_is_seen():
    """Of a batch of discs: better, the longer it was practised, than the grey that hides them."""
    import keras

    from training.restored import Hidden, restore
    from training.unet import build

    frames, _ = discs(16)
    hidden, greys = Hidden(frames, recipe(1), seed=2)[0]
    assert hidden.shape == greys.shape == (8, 32, 48, 1)
    assert 0.2 < (hidden == 0).mean() < 0.8
    assert greys.min() >= 0 and greys.max() <= 1
    model = build(TINY, SIZE)
    restore(model, frames, recipe(1, restored=15), 1, keras.optimizers.Adam())
    drawn = model(hidden)["mask"].numpy()
    assert ((drawn - greys) ** 2).mean() < ((0.5 - greys) ** 2).mean()


def test_half_of_what_is_taught_may_be_what_teachers_say(monkeypatch):
    """Of discs with two wrong masks: their targets are of two minds, and the others' are not."""
    from training import train_unet
    from training.augment import targets

    frames, masks = discs(24)
    masks[0], masks[1] = 0, masks[2]
    sides = {"train": (frames, masks), "validation": discs(8, seed=1)}
    told = []
    monkeypatch.setattr(train_unet, "softened", lambda *given: told.append(softened(*given)) or told[0])
    chosen = Candidate(input=SIZE, mirrored=False, net=TINY, recipe=recipe(15, teachers=3))
    train(chosen, sides, seed=1)
    (soft,) = told
    assert (soft.shape, soft.dtype) == (masks.shape, np.float32)
    assert np.all(soft[masks == 1] >= 0.5) and np.all(soft[masks == 0] <= 0.5)
    assert soft[0].max() > 0.1 and soft[1][masks[1] == 1].mean() < 0.9
    assert np.abs(soft[2:] - masks[2:]).mean() < 0.05
    np.testing.assert_array_equal(targets(soft, ["presence"])["presence"], targets(masks, ["presence"])["presence"])


def test_coarser_levels_are_taught_the_mask_and_are_not_served(tmp_path):
    from service.runtime import open_runtime

    sides = {"train": discs(16), "validation": discs(8, seed=1)}
    net = TINY.model_copy(update={"heads": ["mask", "presence", "coarse"]})
    model, history = train(Candidate(input=SIZE, mirrored=False, net=net, recipe=recipe(4, restored=1)), sides, seed=1)
    assert list(model.output) == ["mask", "presence", "coarse_4"]
    assert history["val_coarse_4_loss"].iloc[-1] < history["val_coarse_4_loss"].iloc[0]
    export(model, tmp_path / "unet.onnx")
    mask, presence = open_runtime(tmp_path)(sides["validation"][0][..., np.newaxis].astype(np.float32))
    assert (mask.shape, presence.shape) == ((8, 32, 48, 1), (8,))


@pytest.mark.parametrize("heads", [["mask"], ["mask", "presence"]])
def test_the_exported_network_is_the_trained_one(tmp_path, heads):
    from service.runtime import open_runtime
    from training.unet import build

    model = build(TINY.model_copy(update={"heads": heads, "stem": 1}), SIZE)
    export(model, tmp_path / "unet.onnx")
    frames = discs(3)[0][..., np.newaxis].astype(np.float32)
    mask, presence = open_runtime(tmp_path)(frames)
    expected = model(frames)
    np.testing.assert_allclose(mask, expected["mask"], atol=1e-5)
    np.testing.assert_allclose(presence, np.ravel(expected["presence"]), atol=1e-5)


def test_batch_normalisation_settles_on_what_it_is_shown() -> None:
    """Behind the first one, its inputs have their mean and deviation, whatever the training left there."""
    import keras

    from training.unet import build

    model = build(TINY, SIZE)
    frames = np.random.default_rng(1).normal(3.0, 2.0, (16, SIZE.height, SIZE.width, 1)).astype(np.float32)
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    before = keras.Model(model.inputs, first.input)
    first.moving_mean.assign(np.full(8, 100.0))
    settle(model, np.split(frames, 4))
    seen = before(frames.astype(np.float32)).numpy()
    np.testing.assert_allclose(first.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(first.moving_variance, seen.var(axis=(0, 1, 2)), rtol=0.05)
    assert first.momentum == 0.9
    assert all(layer.rate == 0.2 for layer in model.layers if isinstance(layer, keras.layers.Dropout))
