"""What the house tests share: where the checkout is, and its files as text and as syntax trees."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tidemill"
TESTS = ROOT / "tests"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(folder: Path) -> list[Path]:
    """Every Python file below a folder, in a fixed order, but for the projects in it: those are written as users do."""
    return sorted(path for path in folder.rglob("*.py") if not _is_users(path))


def _is_users(path: Path) -> bool:
    inside = [parent for parent in path.parents if ROOT in parent.parents]
    return "__pycache__" in path.parts or any((parent / "tidemill.toml").exists() for parent in inside)


def name_of(path: Path) -> str:
    """A file's name from the checkout's top, the same on every machine."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> list[Function]:
    """Every function and method in a tree, nested ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of names; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Local name -> the full name it was imported under."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {_local_name(alias): _full_name(alias) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def full_name(node: ast.AST, imports: dict[str, str]) -> str:
    """The dotted name of a node with its first part replaced by what was imported under it."""
    head, _, rest = dotted(node).partition(".")
    head = imports.get(head, head)
    return f"{head}.{rest}" if rest else head


def tracked_files() -> list[Path]:
    """The files of the checkout, as git knows them; outside git (an unpacked archive), the source and the tests."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        return [path for path in ROOT.rglob("*") if path.is_file() and path.parts[len(ROOT.parts)] in {"src", "tests"}]
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def _local_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _full_name(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]
