"""params.yaml: an invalid value or an unknown name is an error that names its key."""

from typing import Any, Literal, get_args

import pytest
import yaml

from tests.project_copy import ROOT, nerve, write_nerve
from training.experiments.ablation_parameters import Ablations
from training.workspace import digits_parameters, nerve_parameters
from training.workspace.digits_parameters import DigitsParameters
from training.workspace.nerve_parameters import Net, Source, read_candidate
from training.workspace.parameter_validation import ParameterError, Section, validate_section


def expected(literal: Any) -> str:
    """Return pydantic's message for a value that is not one of a Literal."""
    *others, last = (repr(value) for value in get_args(literal))
    return f"Input should be {', '.join(others)} or {last}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "mri"}, rf"params.yaml: nerve.source: {expected(Source)}"),
        ({"on_error": "leave_out"}, rf"params.yaml: nerve.on_error: {expected(Literal['stop', 'skip'])}"),
        ({"on_fault": "stop"}, r"params.yaml: nerve.on_fault: Extra inputs are not permitted"),
        (
            {"phantom": {"subjects": "two", "frames": 2, "seed": 1, "difficulty": "easy", "consoles": ["standard"]}},
            "nerve.phantom.subjects: .* valid integer",
        ),
        (
            {"phantom": {"subjects": 2, "frames": 2, "seed": 1, "difficulty": "easy", "consoles": []}},
            "nerve.phantom.consoles: List should have at least 1 item",
        ),
        ({"refit": True}, r"nerve.refit: Input should be a valid list"),
        ({"refit": ["kagle"]}, rf"nerve.refit.0: {expected(Source)}"),
        ({"candidates": []}, r"nerve.candidates: List should have at least 1 item"),
        (
            {"candidates": ["lite"]},
            r"params.yaml: nerve: .*candidates: unets has no lite; it has .*light",
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
        (
            "net",
            {"encoder_weights": "imagenet"},
            r"nerve.unets.light.net: .*encoder_weights: imagenet are weights of \w+, and encoder is null",
        ),
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


def test_pre_trained_weights_of_another_encoder_are_an_error() -> None:
    class NetWithSecondEncoder(Net):
        encoder: Literal["efficientnet_lite0", "resnet18"] | None = None

    entry = {"filters": [8, 8, 8, 8], "stem": 2, "batch_norm": True, "heads": ["mask"], "encoder": "resnet18"}
    assert validate_section(NetWithSecondEncoder, entry, "net").encoder_weights == "random"
    with pytest.raises(ParameterError) as error:
        validate_section(NetWithSecondEncoder, entry | {"encoder_weights": "imagenet"}, "net")
    assert "encoder_weights: imagenet are weights of efficientnet_lite0, and encoder is resnet18" in str(error.value)
    assert "set encoder to efficientnet_lite0, or encoder_weights to random" in str(error.value)


NO_NAMES = ["toy;touch X;#", "$(id)", "a b", "a\nb", "", "-s", "a.b", "../docs", "a/b", "a@b", "a" * 65, "nervé"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_a_shell_or_a_path_could_misread_is_an_error(name: str) -> None:
    unets = nerve({}).unets
    with pytest.raises(ParameterError, match=r"(?s)nerve\.candidates\.0: .* is not a name: use at most 64 letters"):
        nerve({"candidates": [name]})
    with pytest.raises(ParameterError, match=r"(?s)nerve\.unets\..* is not a name"):
        nerve({"unets": unets | {name: unets["light"]}})
    ablations = nerve({}).ablations
    with pytest.raises(ParameterError, match=r"(?s)ablations\.base: .* is not a name"):
        validate_section(Ablations, ablations | {"base": name}, "ablations")
    with pytest.raises(ParameterError, match=r"(?s)ablations\.changes\..* is not a name"):
        validate_section(Ablations, ablations | {"changes": {name: {}}}, "ablations")


@pytest.mark.parametrize("section", ["nets", "lessons"])
def test_a_name_of_the_digits_with_a_separator_is_an_error(section: str) -> None:
    digits = yaml.safe_load((ROOT / "params.yaml").read_text())["digits"]
    entry = next(iter(digits[section].values()))
    with pytest.raises(ParameterError, match=rf"digits\.{section}\..* is not a name"):
        validate_section(DigitsParameters, digits | {section: {"a;b": entry}}, "digits")


@pytest.mark.parametrize("module", [nerve_parameters, digits_parameters])
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
