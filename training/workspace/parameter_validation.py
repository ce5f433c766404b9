"""Read params.yaml and validate its sections: an unknown key or an invalid value is an error, not a default."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name: use at most 64 letters A to Z, digits, underscores and hyphens, with no hyphen "
            "at the start"
        )
    return name


# A name that an entry of params.yaml gets. It becomes part of DVC's stage names and keys, and of paths.
Name = Annotated[str, AfterValidator(_check_name)]


class ParameterError(SystemExit):
    """A value of params.yaml is invalid. The message names its key.

    It ends a stage with this message alone, without a traceback.
    """


class Section(BaseModel):
    """A mapping in params.yaml. It rejects unknown keys and cannot change after it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=Section)


def read_section(section: type[S], key: str) -> S:
    """Read and validate a top-level section of params.yaml in the working directory.

    key: the section's name in the file.

    Raises ParameterError for an invalid entry.
    """
    return validate_section(section, yaml.safe_load(Path("params.yaml").read_text())[key], key)


def validate_section(section: type[S], entry: dict[str, Any], key: str) -> S:
    """Return the entry of params.yaml as an instance of `section`.

    key: the entry's dotted name for messages, for example "nerve.unets.deep".

    Raises ParameterError, which names the key of each invalid value.
    """
    try:
        return section(**entry)
    except ValidationError as error:
        messages = [f"{'.'.join(map(str, (key, *e['loc'])))}: {e['msg']}" for e in error.errors()]
        raise ParameterError(f"params.yaml: {'; '.join(messages)}") from error
