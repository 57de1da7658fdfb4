r"""Run the code blocks of a Markdown file, the way a reader would: top to bottom, in one empty folder.

How a block is treated is said by the first word after its fence, and the words that follow it:

    python              run in one Python session a file: a block sees the names of the blocks before it
    bash                run with `bash -e`, with the commands of this environment first on PATH
    console             the same for the lines that begin with `$ ` (`> ` goes on); other lines are output
    anything else       shown, not run

    file=PATH           write the block to PATH in the folder, do not run it (any language)
    fails               the block must fail
    no-run: REASON      do not run; the reason is for the next reader

A word that is not in this list is an error, so a misspelt `no-run` never hides a broken block.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK_SECONDS_MAX = 120

RUN_LANGUAGES = {"python", "bash", "console"}
# Spellings that look as if they were run; the reader of the Markdown file deserves one spelling a language.
OTHER_SPELLINGS = {"py": "python", "python3": "python", "pycon": "python", "sh": "bash", "shell": "bash", "zsh": "bash"}

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")

# The Python session of a file: takes {"path": ...} a line, runs that file's code, answers {"error": ...} a line.
SESSION = r"""
import json, linecache, os, sys, traceback
answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
requests = os.fdopen(int(sys.argv[2]))
sys.argv = [""]
sys.path.insert(0, os.getcwd())
scope = sys.modules["__main__"].__dict__
for line in requests:
    path = json.loads(line)["path"]
    error = ""
    try:
        with open(path, encoding="utf-8") as source:
            code = compile(source.read(), path, "exec", dont_inherit=True)
        exec(code, scope)
    except BaseException:
        error = traceback.format_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    print(json.dumps({"error": error}), file=answers)
"""


class BlockError(Exception):
    """A block did not do what its page says; the message names the page and the line."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it stands, what it says, and how it is to be treated."""

    line: int
    language: str
    text: str
    file: str = ""
    fails: bool = False
    no_run: str = ""


def read_blocks(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text, in order. An unclosed fence is an error: it would swallow the rest."""
    lines = iter(enumerate(markdown.splitlines(), start=1))
    for number, line in lines:
        opening = FENCE.match(line)
        if opening is None:
            continue
        body = _body(lines, opening["fence"], len(opening["indent"]), number)
        yield _block(number, opening["info"].strip(), "".join(f"{text}\n" for text in body))


def _body(lines: Iterator[tuple[int, str]], fence: str, indent: int, start: int) -> list[str]:
    body: list[str] = []
    for _, line in lines:
        closing = line.strip()
        if closing.startswith(fence) and set(closing) == {fence[0]}:
            return body
        body.append(line[indent:] if line[:indent].isspace() else line)
    raise BlockError(f"line {start}: the fence is never closed")


def _block(line: int, info: str, text: str) -> Block:
    language, _, rest = info.partition(" ")
    if language in OTHER_SPELLINGS:
        raise BlockError(f"line {line}: write `{OTHER_SPELLINGS[language]}` for `{language}`")
    words, _, reason = rest.partition("no-run")
    options = _options(line, words.split())
    if "no-run" in rest:
        reason = reason.removeprefix(":").strip()
        if not reason:
            raise BlockError(f"line {line}: `no-run` needs a reason: `no-run: why`")
    return Block(line, language, text, str(options.get("file", "")), "fails" in options, reason)


def _options(line: int, words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if (name == "file" and value) or word == "fails":
            options[name] = value
        else:
            raise BlockError(f"line {line}: unknown word {word!r}; known are file=PATH, fails and no-run: REASON")
    return options


def commands(console: str) -> str:
    """The commands of a console block, without the output shown between them."""
    shown = [line[2:] for line in console.splitlines() if line.startswith(("$ ", "> "))]
    return "\n".join(shown) + "\n"


class Reader:
    """Someone who follows a page: an empty folder, a shell, one Python session. Leaves no process behind."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.groups: list[int] = []
        self.python: PythonSession | None = None
        folder.mkdir()
        home.mkdir()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.python is not None:
            self.python.close()
        for group in self.groups:
            kill(group)

    def follow(self, block: Block) -> None:
        """Do what a block asks for; raise `BlockError` when it does not go as the page says."""
        if block.file:
            self._write(block)
        elif block.language in RUN_LANGUAGES and not block.no_run:
            failure = self._run_python(block) if block.language == "python" else self._run_bash(block)
            _judge(block, failure)

    def _write(self, block: Block) -> None:
        target = (self.folder / block.file).resolve()
        if not target.is_relative_to(self.folder.resolve()):
            raise BlockError(f"line {block.line}: {block.file} is outside the page's folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")

    def _run_python(self, block: Block) -> str:
        if self.python is None:
            self.python = PythonSession(self.folder, self.home, self._environment())
            self.groups.append(self.python.process.pid)
        return self.python.run(block)

    def _run_bash(self, block: Block) -> str:
        script = commands(block.text) if block.language == "console" else block.text
        log = self.home / f"block-{block.line}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-c", script],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.groups.append(process.pid)
        try:
            code = process.wait(timeout=BLOCK_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise BlockError(f"line {block.line}: still running after {BLOCK_SECONDS_MAX} s\n{_tail(log)}") from None
        return f"exit code {code}\n{_tail(log)}" if code else ""

    def _environment(self) -> dict[str, str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TIDEMILL_"))
        }
        tools = Path(sys.executable).parent
        return environment | {
            "PATH": f"{tools}{os.pathsep}{environment.get('PATH', os.defpath)}",
            "HOME": str(self.home),
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }


class PythonSession:
    """One Python process that runs the blocks of a page one after the other, as a reader's own session would."""

    def __init__(self, folder: Path, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.log = home / "python.log"
        requests_read, requests_write = os.pipe()
        answers_read, answers_write = os.pipe()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SESSION, str(answers_write), str(requests_read)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(answers_write, requests_read),
            )
        os.close(requests_read)
        os.close(answers_write)
        self.requests = os.fdopen(requests_write, "w", buffering=1)
        self.answers = os.fdopen(answers_read)

    def run(self, block: Block) -> str:
        """Run one block; returns what went wrong, or nothing."""
        source = self.home / f"block_{block.line}.py"
        source.write_text(block.text, encoding="utf-8")
        self._ask(source)
        if not select.select([self.answers], [], [], BLOCK_SECONDS_MAX)[0]:
            raise BlockError(f"line {block.line}: still running after {BLOCK_SECONDS_MAX} s\n{_tail(self.log)}")
        answer = self.answers.readline()
        return str(json.loads(answer)["error"]) if answer else f"the Python session ended\n{_tail(self.log)}"

    def _ask(self, source: Path) -> None:
        with suppress(BrokenPipeError):  # a session that is gone answers with nothing
            print(json.dumps({"path": str(source)}), file=self.requests)

    def close(self) -> None:
        """End the session; safe when it is already gone."""
        kill(self.process.pid)
        self.process.wait()
        self.answers.close()
        with suppress(BrokenPipeError):
            self.requests.close()


def follow_page(markdown: str, reader: Reader) -> int:
    """Follow a page from top to bottom; returns how many blocks were run or written."""
    blocks = list(read_blocks(markdown))
    for block in blocks:
        reader.follow(block)
    return sum(bool(block.file) or (block.language in RUN_LANGUAGES and not block.no_run) for block in blocks)


def kill(group: int) -> None:
    """End a process group we started; safe when it is already gone."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _judge(block: Block, failure: str) -> None:
    if failure and not block.fails:
        raise BlockError(f"line {block.line}: the block failed\n{block.text}\n{failure}")
    if block.fails and not failure:
        raise BlockError(f"line {block.line}: the block should fail, and did not\n{block.text}")


def _tail(log: Path, characters: int = 4000) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-characters:]
