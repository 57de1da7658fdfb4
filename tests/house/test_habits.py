"""Habits the house keeps, each as a rule that finds its breaches; every rule is also shown a breach it must find."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house.source import (
    PACKAGE,
    ROOT,
    TESTS,
    dotted,
    full_name,
    functions,
    imported_names,
    name_of,
    python_files,
    tracked_files,
    tree_of,
)

# Tests that may really sleep -> why nothing else would do. Empty is the aim.
SLEEPERS: dict[str, str] = {}

VAGUE_MODULES = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
VAGUE_CLASS = re.compile(r"^(Base|Abstract)[A-Z]|(Base|Impl)$")
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
MACHINE_PATH = re.compile(r"(?<![\w./<>}~-])/(?:[Uu]sers|home|root|work)/[\w.-]+")
REGISTRY = re.compile(
    r"(?:pypi\.[a-z]|pythonhosted\.|artifactory|index[-_]url|find[-_]links|registry\.npmjs|ghcr\.i[o]|docker\.i[o])",
    re.IGNORECASE,
)

Rule = Callable[[ast.Module], Iterator[str]]


# The rules: a tree in, the breaches out.


def hidden_imports(tree: ast.Module) -> Iterator[str]:
    """Imports inside functions, written as a statement or as a call."""
    for function in functions(tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom) or _called(node) in IMPORT_CALLS:
                yield f"{node.lineno} {function.name} imports"  # type: ignore[attr-defined]


def vague_classes(tree: ast.Module) -> Iterator[str]:
    """Classes named for being a base or an implementation."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name):
            yield f"{node.lineno} class {node.name}"


def sleeps(tree: ast.Module) -> Iterator[str]:
    """Calls that really sleep."""
    imports = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and full_name(node.func, imports) == "time.sleep":
            yield f"{node.lineno} time.sleep"


def mocks(tree: ast.Module) -> Iterator[str]:
    """Mock libraries, and our own code replaced under a test."""
    imports = imported_names(tree)
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for name in {*imports.values(), *plain}:
        if name.split(".")[:2] == ["unittest", "mock"] or name.partition(".")[0] in {"mock", "pytest_mock"}:
            yield f"imports {name}"
    for node in ast.walk(tree):
        if _called(node).endswith(("monkeypatch.setattr", "monkeypatch.delattr")) and _is_ours(node, imports):
            yield f"{node.lineno} monkeypatch of our own code"  # type: ignore[attr-defined]


def bare_skips(tree: ast.Module) -> Iterator[str]:
    """Tests skipped, or expected to fail, without a reason."""
    with_call = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in with_call and dotted(node) in BARE_MARKS:
            yield f"{node.lineno} {dotted(node)}"
        if isinstance(node, ast.Call) and dotted(node.func) in REASONED_MARKS and not _has_reason(node):
            yield f"{node.lineno} {dotted(node.func)}"


IMPORT_CALLS = {"import_module", "importlib.import_module", "__import__"}
BARE_MARKS = {"pytest.mark.skip", "pytest.mark.xfail"}
REASONED_MARKS = BARE_MARKS | {"pytest.mark.skipif"}


# The product.


def may_import_late(path: Path) -> bool:
    """The places where adapters and commands are loaded by name."""
    place = path.relative_to(PACKAGE).parts
    return place[0] in {"project", "project.py"} or place[:2] == ("cli", "__init__.py")


def test_no_import_hides_in_a_function() -> None:
    for_lazy_doors = re.compile(r" __getattr__ imports$")
    found = {
        f"{name_of(path)}:{breach}"
        for path in python_files(PACKAGE)
        if not may_import_late(path)
        for breach in hidden_imports(tree_of(path))
        if not (path.name == "__init__.py" and for_lazy_doors.search(breach))
    }
    assert found == set()


def test_no_module_has_a_vague_name() -> None:
    found = {name_of(path) for path in PACKAGE.rglob("*") if path.stem in VAGUE_MODULES}
    assert found == set()


def test_no_class_is_named_for_its_place_in_a_hierarchy() -> None:
    assert breaches(PACKAGE, vague_classes) == set()


def test_nothing_is_left_to_do_in_a_comment() -> None:
    found = {name_of(path) for path in python_files(PACKAGE) if LEFTOVER.search(path.read_text(encoding="utf-8"))}
    assert found == set()


def test_every_module_opens_with_what_it_is_for() -> None:
    found = {
        name_of(path) for path in python_files(PACKAGE) if tree_of(path).body and not ast.get_docstring(tree_of(path))
    }
    assert found == set()


# The tests.


def test_no_test_really_sleeps() -> None:
    found = {text for text in breaches(TESTS, sleeps) if text.partition(":")[0] not in SLEEPERS}
    assert found == set()


def test_the_list_of_sleepers_only_shrinks() -> None:
    """An exception that is no longer needed must be struck out."""
    sleeping = {text.partition(":")[0] for text in breaches(TESTS, sleeps)}
    assert SLEEPERS.keys() - sleeping == set()


def test_no_test_mocks_our_own_code() -> None:
    assert breaches(TESTS, mocks) == set()


def test_no_test_is_skipped_without_a_reason() -> None:
    assert breaches(TESTS, bare_skips) == set()


# The files.


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY], ids=["machine paths", "registries"])
def test_no_tracked_file_names_a_machine_or_a_registry(pattern: re.Pattern[str]) -> None:
    me = Path(__file__).resolve()
    found = {
        f"{name_of(path)}: {match.group()}"
        for path in tracked_files()
        if path != me
        for match in pattern.finditer(_text(path))
    }
    assert found == set()


def test_git_ignores_nothing_that_the_wheel_needs() -> None:
    """The wheel takes what git does not ignore: an ignored template would be missing without a word."""
    command = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "src/tidemill"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ignored = {name for name in listing.stdout.splitlines() if "__pycache__/" not in name}
    assert ignored == set()


# The rules themselves.

BREACHES: list[tuple[Rule, str]] = [
    (hidden_imports, "def f():\n    import os\n"),
    (hidden_imports, "def f():\n    from os import path\n"),
    (hidden_imports, "def f():\n    return importlib.import_module('os')\n"),
    (vague_classes, "class BaseStore: pass\n"),
    (vague_classes, "class StoreImpl: pass\n"),
    (sleeps, "import time\ntime.sleep(1)\n"),
    (sleeps, "from time import sleep as nap\nnap(1)\n"),
    (mocks, "from unittest import mock\n"),
    (mocks, "from unittest.mock import patch\n"),
    (mocks, "import unittest.mock\n"),
    (mocks, "def test(monkeypatch):\n    monkeypatch.setattr('tidemill.core.x', 1)\n"),
    (mocks, "from tidemill import core\ndef test(monkeypatch):\n    monkeypatch.setattr(core, 'x', 1)\n"),
    (bare_skips, "import pytest\n@pytest.mark.skip\ndef test(): pass\n"),
    (bare_skips, "import pytest\n@pytest.mark.skip()\ndef test(): pass\n"),
    (bare_skips, "import pytest\n@pytest.mark.skipif(True)\ndef test(): pass\n"),
]

CLEAN: list[tuple[Rule, str]] = [
    (hidden_imports, "import os\ndef f(): pass\n"),
    (vague_classes, "class Database: pass\nclass BasementLevel: pass\n"),
    (sleeps, "import time\ntime.monotonic()\nclock.sleep(1)\n"),
    (
        mocks,
        "import os\ndef test(monkeypatch):\n    monkeypatch.setenv('A', 'b')\n    monkeypatch.setattr(os, 'x', 1)\n",
    ),
    (bare_skips, "import pytest\n@pytest.mark.skipif(True, reason='no fork here')\ndef test(): pass\n"),
    (bare_skips, "import pytest\n@pytest.mark.skip('not on this system')\ndef test(): pass\n"),
]


@pytest.mark.parametrize(("rule", "source"), BREACHES)
def test_a_rule_finds_its_breach(rule: Rule, source: str) -> None:
    assert list(rule(ast.parse(source)))


@pytest.mark.parametrize(("rule", "source"), CLEAN)
def test_a_rule_lets_good_code_pass(rule: Rule, source: str) -> None:
    assert not list(rule(ast.parse(source)))


@pytest.mark.parametrize("text", ["see /" + "home/ada/x", "'/" + "root/.venv'", "cd /" + "work/main"])
def test_a_machine_path_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["GET /v1/assets", "https://example.com/home/page", "data/work/x", "${HOME}/home/x"])
def test_other_paths_are_not_machine_paths(text: str) -> None:
    assert not MACHINE_PATH.search(text)


def breaches(folder: Path, rule: Rule) -> set[str]:
    """What a rule finds in a folder's files."""
    return {f"{name_of(path)}:{breach}" for path in python_files(folder) for breach in rule(tree_of(path))}


def _called(node: ast.AST) -> str:
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def _is_ours(call: ast.AST, imports: dict[str, str]) -> bool:
    target = call.args[0] if isinstance(call, ast.Call) and call.args else call
    name = target.value if isinstance(target, ast.Constant) else full_name(target, imports)
    return str(name).partition(".")[0] == "tidemill"


def _has_reason(call: ast.Call) -> bool:
    positional_reason = dotted(call.func) == "pytest.mark.skip" and bool(call.args)
    return positional_reason or any(keyword.arg == "reason" for keyword in call.keywords)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="ignore")
