"""The section `nerve.search` of params.yaml."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from ray import tune

from training.experiments.ablation_parameters import override
from training.workspace import nerve_parameters
from training.workspace.parameter_validation import Name, Section, validate_section

Distribution = Literal["uniform", "quniform", "loguniform", "randint", "choice"]


class Search(Section):
    """The section `nerve.search`: trials of one candidate with other values."""

    base: Name
    """The candidate, by its name in `nerve.unets`."""
    fold: int = Field(ge=1, le=5)
    """The cross-validation fold whose training and validation frames the trials use."""
    seed: int
    """Of the trainings, and of the values that Optuna proposes."""
    trials: PositiveInt
    """How many trials."""
    max_concurrent_trials: PositiveInt
    """How many trials at most run at a time. With more, Optuna proposes values before it knows earlier results."""
    grace_epochs: PositiveInt
    """ASHA stops no trial before so many epochs."""
    overrides: dict[str, Any] = Field({})
    """Values of the candidate that all trials change, for example to train for fewer epochs."""
    space: dict[str, dict[Distribution, list[Any]]] = Field(min_length=1)
    """For each dotted name of `nerve.unets` (`recipe.phases.0.learning_rate`) a distribution of Ray Tune, and its
    arguments: `{loguniform: [1.0e-4, 1.0e-2]}`, `{choice: [2, 4]}`."""

    @model_validator(mode="after")
    def _each_has_one_distribution(self) -> Self:
        for name, distribution in self.space.items():
            if len(distribution) != 1:
                raise ValueError(f"space.{name}: give one distribution, not {len(distribution)}")
        return self


def read_search() -> Search:
    """Return the section `nerve.search` of params.yaml. Raises ParameterError if an entry is invalid."""
    return validate_section(Search, nerve_parameters.read_nerve_parameters().search, "nerve.search")


def draw_from(distribution: dict[Distribution, list[Any]]) -> Any:
    """Return Ray Tune's object for a distribution."""
    ((name, arguments),) = distribution.items()
    return tune.choice(arguments) if name == "choice" else getattr(tune, name)(*arguments)


def with_values(search: Search, values: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of `nerve.unets` of the base candidate with other values.

    values: by dotted name. A number in a name is an index of a list. Raises KeyError for a name that does not exist.
    """
    entry = override(nerve_parameters.read_nerve_parameters().unets[search.base], search.overrides)
    for name, value in values.items():
        entry = _with_value(entry, name.split("."), value)
    return entry


def _with_value(entry: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    key: Any = int(path[0]) if isinstance(entry, list) else path[0]
    changed = entry.copy()
    changed[key] = _with_value(entry[key] if isinstance(entry, list) else entry.get(key, {}), path[1:], value)
    return changed
