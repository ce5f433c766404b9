"""params.yaml: an invalid value or an unknown name is an error that names its key."""

import pytest

from tests.project_copy import nerve, write_nerve
from training.workspace import digits_parameters, parameters
from training.workspace.parameters import read_candidate
from training.workspace.params_file import ParameterError, Section


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "mri"}, r"params.yaml: nerve.source: Input should be 'phantom', 'usgra', 'kaggle' or 'folder'"),
        ({"on_error": "leave_out"}, r"params.yaml: nerve.on_error: Input should be 'stop' or 'skip'"),
        ({"on_fault": "stop"}, r"params.yaml: nerve.on_fault: Extra inputs are not permitted"),
        (
            {"phantom": {"subjects": "two", "frames": 2, "seed": 1}},
            "nerve.phantom.subjects: .* valid integer",
        ),
        ({"refit": True}, r"nerve.refit: Input should be a valid list"),
        ({"refit": ["kagle"]}, r"nerve.refit.0: Input should be 'phantom', 'usgra', 'kaggle' or 'folder'"),
        ({"candidates": []}, r"nerve.candidates: List should have at least 1 item"),
        (
            {"candidates": ["lite"]},
            r"params.yaml: nerve: .*candidates: unets has no lite; it has lecture, light, deep, large",
        ),
    ],
)
def test_an_error_names_the_key_of_an_invalid_value(change, message):
    with pytest.raises(ParameterError, match=message):
        nerve(change)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("input", {"height": 161}, r"nerve.unets.light: .*the network halves 161x224 5 times: use multiples of 32"),
        ("net", {"heads": ["presence"]}, r'nerve.unets.light.net: .*heads: "mask" is required'),
        ("net", {"encoder_weights": "imagenet"}, r"nerve.unets.light.net: .*imagenet requires an encoder"),
        ("recipe", {"ema_momentum": 1.5}, r"nerve.unets.light.recipe.ema_momentum: Input should be less than 1"),
        ("recipe", {"augment": None, "momentum": 0.9}, r"nerve.unets.light.recipe.momentum: Extra inputs"),
    ],
)
def test_an_error_names_the_key_in_a_candidate(tmp_path, monkeypatch, section, change, message):
    light = nerve({}).unets["light"]
    write_nerve(tmp_path, {"candidates": ["light"], "unets": {"light": light | {section: light[section] | change}}})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=message):
        read_candidate("light")


def test_an_error_names_the_candidates_that_exist(tmp_path, monkeypatch):
    write_nerve(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"params.yaml: nerve\.unets has no 'lite'; it has .*deep"):
        read_candidate("lite")


@pytest.mark.parametrize("module", [parameters, digits_parameters])
def test_each_parameter_is_documented(module):
    """By a description, or by the docstring of its own section."""
    sections = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Section)]
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description and field.annotation not in sections
    ]
    assert not undocumented
