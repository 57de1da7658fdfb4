"""Python as an engine: the `@job` decorator, the `Run` of jobs that act outside, and the engine that calls functions.

Rules of this room:
  * a definition registers nothing: the project room finds it;
  * user code is called in one place (`apply`), over plain Arrow tables, wherever it runs.
"""

from __future__ import annotations

from tidemill.engines.python.capture import aside
from tidemill.engines.python.definition import Declaration, Definition, asset, job, topic
from tidemill.engines.python.engine import FunctionFailed, PythonEngine
from tidemill.engines.python.run import Run

__all__ = ["Declaration", "Definition", "FunctionFailed", "PythonEngine", "Run", "aside", "asset", "job", "topic"]
