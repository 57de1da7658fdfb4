"""What docs/guarantees.md names as proof is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROOF = re.compile(r"`(tests/[\w/.]+)(?:::(\w+))?`")
PROOFS = sorted(set(PROOF.findall((ROOT / "docs/guarantees.md").read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("file", "test"), PROOFS, ids="::".join)
def test_every_proof_that_a_guarantee_names_is_there(file: str, test: str) -> None:
    path = ROOT / file
    assert path.exists()
    if test:
        functions = [
            node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        ]
        assert test in [function.name for function in functions]
