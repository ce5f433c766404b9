"""The section `nerve.ablations` of params.yaml."""

from typing import Any

from pydantic import Field, PositiveInt

from training.workspace import nerve_parameters
from training.workspace.nerve_parameters import Candidate, Tta
from training.workspace.parameter_validation import Name, Section, validate_section

BASE = "base"


class Ablation(Section):
    """One ablation: the values of the base candidate that it changes, by the names of `nerve.unets`."""

    seeds: list[int] = Field([])
    """A training per fold and seed. Empty: the seeds of `nerve.ablations`."""
    input: dict[str, Any] = Field({})
    tta: Tta | None = None
    net: dict[str, Any] = Field({})
    recipe: dict[str, Any] = Field({})

    @property
    def overrides(self) -> dict[str, Any]:
        """The values that the ablation changes, and no others."""
        return self.model_dump(exclude={"seeds"}, exclude_unset=True)


class Ablations(Section):
    """The section `nerve.ablations`: trainings of one candidate, each with one change."""

    base: Name
    """The candidate, by its name in `nerve.unets`."""
    folds: list[PositiveInt]
    """Cross-validation folds to train on, 1 to 5."""
    seeds: list[int]
    """Seeds of each ablation that has none of its own."""
    overrides: dict[str, Any] = Field({})
    """Values of the candidate that all ablations change, for example to train for fewer epochs."""
    changes: dict[Name, Ablation]
    """The ablations by name. "base" changes nothing; its seeds show how much chance changes the Dice."""


def read_ablations() -> Ablations:
    """Return the section `nerve.ablations` of params.yaml. Raises ParameterError if an entry is invalid."""
    return validate_section(Ablations, nerve_parameters.read_nerve_parameters().ablations, "nerve.ablations")


def ablation_candidates(section: Ablations) -> dict[str, Candidate]:
    """Return the candidate that each ablation trains, by the ablation's name. Raises ParameterError."""
    base = override(nerve_parameters.read_nerve_parameters().unets[section.base], section.overrides)
    return {
        name: validate_section(Candidate, override(base, ablation.overrides), f"nerve.ablations.changes.{name}")
        for name, ablation in section.changes.items()
    }


def override(entry: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `entry` with the values of `changes`. Nested mappings are merged; other values are replaced."""
    merged = {
        key: override(entry[key], value) if isinstance(value, dict) and isinstance(entry.get(key), dict) else value
        for key, value in changes.items()
    }
    return entry | merged
