"""The stages of dvc.yaml and training/experiments/dvc.yaml."""

import re

import pytest
import yaml
from dvc.repo import Repo

from tests.project_copy import ROOT

pytestmark = pytest.mark.slow


def test_no_stage_of_a_candidate_depends_on_another_candidate():
    candidates = ("lecture", "light", "deep")
    for stage in Repo(str(ROOT)).index.stages:
        name, _, item = stage.addressing.partition("@")
        candidate = item.partition("-")[0]  # without the fold: "deep-1" is fold 1 of deep
        others = [other for other in candidates if other != candidate] if candidate else []
        dependencies = [str(dependency) for dependency in stage.deps]
        dependencies += [key for dependency in stage.deps for key in getattr(dependency, "params", [])]
        assert not [key for key in dependencies if {*others} & {*re.split("[/.]", key)}], name


@pytest.mark.parametrize("file", ["dvc.yaml", "training/experiments/dvc.yaml"])
def test_no_command_holds_a_name_of_the_parameters(file):
    """DVC gives the command to a shell. Only items that dvc.yaml itself lists may be in it."""
    for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items():
        command = stage.get("do", stage)["cmd"]
        own_items = {key for key, items in stage.get("matrix", {}).items() if isinstance(items, list)}
        interpolated = set(re.findall(r"\$\{(.*?)\}", command))
        assert interpolated <= {f"item.{key}" for key in own_items}, name
