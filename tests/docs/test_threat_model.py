"""Every test that docs/threat-model.md names exists, and every boundary says what is promised and what is not."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?`", PAGE)))
SECTIONS = re.split(r"^## \d+\. ", PAGE, flags=re.M)[1:]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=["::".join(filter(None, named)) for named in NAMED])
def test_a_named_test_exists(file: str, name: str) -> None:
    path = ROOT / "tests" / file
    assert path.is_file()
    functions = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    functions |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncFunctionDef)}
    assert name in functions if name else any(function.startswith("test_") for function in functions)


@pytest.mark.parametrize("section", SECTIONS, ids=[section.splitlines()[0] for section in SECTIONS])
def test_each_promise_names_its_test_and_each_boundary_what_is_not_promised(section: str) -> None:
    rows = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("| ") and "---" not in row]
    assert rows[0] == [" promise ", " test "] and len(rows) > 1
    for promise, tests in rows[1:]:
        assert promise.strip().endswith(".") and "test_" in tests
    assert "\nNot promised: " in section


def test_the_page_has_about_two_pages() -> None:
    prose = re.sub(r"`[^`]*`", "", PAGE)
    assert len(prose.split()) < 1100
