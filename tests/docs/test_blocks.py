"""Every code block of the README and of docs/ runs. How a block is treated: see `blocks.py`."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import Block, BlockError, Reader, commands, follow_page, read_blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if path.is_file()]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Reader(tmp_path / "page", tmp_path / "home") as reader:
        yield reader


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_of_a_page_runs(page: Path, reader: Reader) -> None:
    follow_page(page.read_text(encoding="utf-8"), reader)


# The harness itself: it runs what it should, and a page that is wrong does fail.


def page(*blocks: str) -> str:
    """A page made of blocks, each written as `info line, newline, text`."""
    return "\n".join(f"Some text.\n\n```{block}\n```\n" for block in blocks)


GOOD = {
    "python blocks share names": page("python\nx = 1", "python\nassert x == 1"),
    "python and bash share the folder": page("python\nopen('a', 'w').write('hi')", "bash\ngrep -q hi a"),
    "a file is there for the next block": page("toml file=deep/a.toml\nx = 1", "bash\ngrep -q 'x = 1' deep/a.toml"),
    "a file block of a run language is written, not run": page("python file=jobs/a.py\nraise SystemExit"),
    "a python module of the page can be imported": page("python file=mine.py\nx = 2", "python\nimport mine"),
    "only the commands of a console block run": page("console\n$ echo a > b && \\\n> cat b\na\n$ test -f b"),
    "a block may be meant to fail": page("bash fails\nexit 3", "python fails\n1 / 0"),
    "a session goes on after a block that was meant to fail": page("python fails\nx = 1\n1 / 0", "python\nassert x"),
    "a block may be left out with a reason": page("bash no-run: needs a server\nexit 3"),
    "other languages are shown only": page("text\nfree text", "json\n{", "\nnothing"),
    "this environment's commands come first": page("bash\npython -c 'import duckdb'"),
    "source of a function can be found": page("python\nimport inspect\ndef f(): ...\nassert inspect.getsource(f)"),
    "a longer fence holds a shorter one": "````text\n```python\n1 / 0\n```\n````\n",
    "an indented block loses its indent": "- item\n\n  ```python\n  x = 1\n  ```\n",
}

WRONG = {
    "python that raises": page("python\n1 / 0"),
    "python that does not parse": page("python\nx ="),
    "python that exits": page("python\nimport os\nos._exit(0)"),
    "python after the session ended": page("python fails\nimport os\nos._exit(0)", "python\nx = 1"),
    "bash that fails": page("bash\nexit 1"),
    "bash that fails before its last line": page("bash\nfalse\ntrue"),
    "a console command that fails": page("console\n$ false\nfine"),
    "an unknown command": page("bash\ntidemill-no-such-command"),
    "a block that should fail and does not": page("bash fails\ntrue"),
    "python that should fail and does not": page("python fails\nx = 1"),
    "no reason for not running": page("bash no-run\nexit 3"),
    "an empty reason for not running": page("bash no-run:\nexit 3"),
    "a misspelt word": page("bash norun: reason\nexit 3"),
    "a language under another name": page("sh\ntrue"),
    "a file outside the folder": page("toml file=../a.toml\nx = 1"),
    "a fence that is never closed": "```python\nx = 1\n",
    "an indented block that fails": "1. item\n\n   ```bash\n   false\n   ```\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_page_passes(name: str, reader: Reader) -> None:
    follow_page(GOOD[name], reader)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_page_fails(name: str, reader: Reader) -> None:
    with pytest.raises(BlockError):
        follow_page(WRONG[name], reader)


def test_a_failure_names_its_line_and_shows_what_was_printed(reader: Reader) -> None:
    with pytest.raises(BlockError, match=r"(?s)line 3: .*exit code 7.*it was me"):
        follow_page(page("bash\necho it was me\nexit 7"), reader)


def test_what_is_run_is_counted(reader: Reader) -> None:
    markdown = page("python\nx = 1", "bash\ntrue", "toml file=a\nx", "toml\nx", "bash no-run: slow\nfalse")
    assert follow_page(markdown, reader) == 3


def test_a_block_is_read_with_its_words() -> None:
    [block] = read_blocks("\n```sql file=jobs/a.sql\nselect 1\n```\n")
    assert block == Block(line=2, language="sql", text="select 1\n", file="jobs/a.sql")


def test_output_is_not_a_command() -> None:
    assert commands("$ one\noutput\n$ two \\\n> more\n") == "one\ntwo \\\nmore\n"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux lets us wait for a process of someone else")
def test_a_process_left_in_the_background_ends_with_the_page(tmp_path: Path) -> None:
    with Reader(tmp_path / "page", tmp_path / "home") as reader:
        follow_page(page("bash\nsleep 300 &\necho $! > pid", "bash\nkill -0 $(cat pid)"), reader)
        left_behind = os.pidfd_open(int((tmp_path / "page" / "pid").read_text()))
    ended, _, _ = select.select([left_behind], [], [], 10)
    os.close(left_behind)
    assert ended
