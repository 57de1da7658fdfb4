"""The floors hold, and the machine that watches them is awake: each kind of wrong import, planted, is caught."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, ROOT, name_of, python_files, tree_of

LINT = Path(sys.executable).with_name("lint-imports")

# What is planted: (file, its last line, the contract that must break).
VIOLATIONS = {
    "the heart imports a store": ("core/planted.py", "import tidemill.stores", "Floors"),
    "a store imports an engine": ("stores/planted.py", "import tidemill.engines", "Floors"),
    "the runtime imports the command line": ("runtime/planted.py", "import tidemill.cli", "Floors"),
    "the SQL room imports a connector": ("sql/planted.py", "import tidemill.connectors", "Floors"),
    "a folder that no one placed": ("attic/__init__.py", "", "Floors"),
    "the product imports testing": ("cli/planted.py", "import tidemill.testing", "Testing is for tests"),
    "the demo's truth computes with an engine": ("demo/events.py", "import tidemill.engines", "The demo knows"),
    "a room imports the demo": ("runtime/planted.py", "import tidemill.demo", "Floors"),
    "the heart imports a library": ("core/planted.py", "import duckdb", "standard library only"),
    "the heart reads the clock": ("core/planted.py", "import time", "The heart is pure"),
    "the SQL room opens a database": ("sql/planted.py", "import duckdb", "SQL analysis"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a folder that holds `src` and `pyproject.toml`, on that folder's source."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200", "NO_COLOR": "1"}
    command = [str(LINT), "--config", "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copied_house(tmp_path: Path) -> Path:
    """A copy of the source in which anything may be broken."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_floors_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_planted_violation_is_caught(copied_house: Path, violation: str) -> None:
    place, line, contract = VIOLATIONS[violation]
    planted = copied_house / "src" / "tidemill" / place
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f'"""Planted by a test."""\n\n{line}\n')

    result = lint(copied_house)

    assert result.returncode != 0, result.stdout
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken) or (not line and "attic" in result.stdout), result.stdout


def test_the_heart_imports_only_the_standard_library_and_itself() -> None:
    """The contract lists libraries by name; this catches the one nobody listed."""
    strangers = {
        f"{name_of(path)}: {module}"
        for path in python_files(PACKAGE / "core")
        for module in _imported_modules(tree_of(path))
        if module.partition(".")[0] not in sys.stdlib_module_names and not module.startswith("tidemill.core")
    }
    assert strangers == set()


def test_only_testing_imports_testing() -> None:
    """The contract lists rooms by name; this holds for a room nobody added to the list."""
    found = {
        f"{name_of(path)}: {module}"
        for path in python_files(PACKAGE)
        if path.relative_to(PACKAGE).parts[0] != "testing"
        for module in _imported_modules(tree_of(path))
        if f"{module}.".startswith("tidemill.testing.")
    }
    assert found == set()


def test_nothing_but_the_command_line_goes_through_the_front_door() -> None:
    """The front door leads to every floor, so an import of it climbs; the version number alone is free to all."""
    found = {
        f"{name_of(path)}: {names}"
        for path in python_files(PACKAGE)
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for names in _front_door_imports(tree_of(path))
    }
    assert found == set()


@pytest.mark.parametrize("line", ["import tidemill", "import tidemill as tm", "from tidemill import Run, __version__"])
def test_a_way_through_the_front_door_is_seen(line: str) -> None:
    assert _front_door_imports(ast.parse(line))


@pytest.mark.parametrize("line", ["import tidemill.core", "from tidemill import __version__"])
def test_the_way_to_a_room_is_free(line: str) -> None:
    assert not _front_door_imports(ast.parse(line))


def _front_door_imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name == "tidemill"}
        elif isinstance(node, ast.ImportFrom) and node.module == "tidemill":
            names |= {alias.name for alias in node.names if alias.name != "__version__"}
    return names


def _imported_modules(tree: ast.AST) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules
