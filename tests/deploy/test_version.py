"""The version is the same everywhere, and the changelog describes it."""

import re
import tomllib

import pytest

from service import VERSION
from tests.deploy.test_manifests import DEPLOY, IMAGES, ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
FILES = [DEPLOY / "compose.yaml", *IMAGES, *sorted((DEPLOY / "kubernetes").glob("*/kustomization.yaml"))]


def test_the_package_has_the_services_version() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(DEPLOY).as_posix())
def test_the_images_have_the_version(file) -> None:
    tags = re.findall(r"nervemask(?:-gpu|-training)?:(\d[\w.]*)|newTag: ([\w.]+)", file.read_text())
    assert {tag or new_tag for tag, new_tag in tags} <= {VERSION}


def test_the_guide_builds_the_version() -> None:
    assert f"tag={VERSION}-$(date" in (ROOT / "docs" / "deployment.md").read_text()


def test_the_changelog_keeps_its_form_and_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2}|unreleased)$", CHANGELOG, re.M)
    assert CHANGELOG.count("\n## ") == len(versions)
    assert versions[0][0] == VERSION
    numbers = [tuple(map(int, version.split("."))) for version, _ in versions]
    assert numbers == sorted(numbers, reverse=True)
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Compatibility"}
