"""What a job's version is made of: another version means another result, and the same result keeps its version.

Rules of this file:
  * a version hashes what rule 24 lists: the canonical SQL or the function's own source, `version=`, inputs, outputs,
    key, takes, by, materialized and gate; a word that only says *when* (mode, schedule, retries) is not in it;
  * a function's source is compared as a syntax tree without decorators, docstring, comments and layout, so that
    moving or documenting a function rebuilds nothing.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidemill.core.model import Asset, Job

__all__ = ["Draft", "own_source"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A job that waits for what the rest of the project says of it; `material` is what its version hashes first.

    `mark` is the user's own `version=`; `function` is the callable of a Python job.
    """

    job: Job
    material: str
    mark: str = ""
    function: Callable[..., Any] | None = None
    has_star: bool = False

    def finished(self, assets: Mapping[str, Asset]) -> Job:
        """The job with its version: 32 hexadecimal digits. Where the SQL has a star, its inputs' columns count."""
        job = self.job
        inputs = [assets[name] for name in job.inputs if name in assets] if self.has_star else []
        stars = [[column.name for column in asset.columns] for asset in inputs]
        gated = [job.gate.column, job.gate.on_late] if job.gate else None
        key = None if job.key is None else list(job.key)
        listed = [list(job.inputs), list(job.outputs), key, job.takes, job.materialized, gated]
        by = [list(job.by)] if job.by else []
        text = json.dumps([self.material, *listed, self.mark, stars, *by], ensure_ascii=False)
        return replace(job, version=hashlib.sha256(text.encode()).hexdigest()[:32])


def own_source(function: Callable[..., Any]) -> str:
    """A function's source as it counts for its version; its byte code where the source is gone."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return _from_code(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = []
            _drop_docstring(node)
    return ast.dump(tree, annotate_fields=False)


def _drop_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.Pass()]


def _from_code(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return repr((code.co_code, code.co_consts, code.co_names)) if code else repr(function)
