"""What becomes of columns that a file has and its asset does not, and the other way round.

Rules of this file:
  * another order and another case of letters are no difference; a name that is exactly right goes before one that is
    right but for its case;
  * `strict` (the default) rejects the file at its first column that is not declared, or that is missing; `ignore` leaves
    the first kind out, and says so; `evolve` adds them; for both, what is missing is null;
  * a required column that is missing rejects the file whatever the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tidemill.connectors.files.content import rejected
from tidemill.core.errors import UpstreamError
from tidemill.core.model import Column

__all__ = ["EVOLVE", "IGNORE", "STRICT", "added", "matched", "missing", "settled", "stranger"]

STRICT, EVOLVE, IGNORE = "strict", "evolve", "ignore"


def matched(names: Iterable[str], columns: Iterable[Column]) -> dict[str, str]:
    """By name in the file, the column that it is; names that are no column are left out."""
    given = list(names)
    known = {column.name for column in columns}
    found = {name: name for name in given if name in known}
    folded = {name.lower(): name for name in known - found.keys()}
    for name in given:
        if name not in found and (column := folded.pop(name.lower(), "")):
            found[name] = column
    return found


def settled(
    names: Sequence[str], columns: Sequence[Column], policy: str, file: str, line: int = 0
) -> tuple[list[str], tuple[str, ...]]:
    """The names of a file's columns, with those that are declared as they are declared, and those to be left out.

    Raises UpstreamError where the policy does not allow what the file has.
    """
    known = matched(names, columns)
    strangers = tuple(name for name in names if name not in known)
    if strangers and policy == STRICT:
        raise stranger(strangers[0], file, line)
    present = set(known.values())
    for column in columns if names else ():
        if column.name not in present and (column.required or policy == STRICT):
            raise missing(column, file, line)
    return [known.get(name, name) for name in names], strangers if policy == IGNORE else ()


def stranger(name: str, file: str, line: int, thing: str = "column") -> UpstreamError:
    """The error that rejects a file for a column that is not declared."""
    mend = f'declare {name}, or say schema = "evolve" to add such {thing}s, or "ignore" to leave them out'
    return rejected(file, line, f"the {thing} {name} is not declared", mend)


def missing(column: Column, file: str, line: int, thing: str = "column") -> UpstreamError:
    """The error that rejects a file for a column that it does not have."""
    if column.required:
        mend = "mend the file, or declare it as not required"
        return rejected(file, line, f"the required {thing} {column.name} is missing", mend)
    mend = 'mend the file, or say schema = "evolve" or "ignore": then it is null'
    return rejected(file, line, f"the {thing} {column.name} is missing", mend)


def added(
    found: Iterable[Column], columns: Sequence[Column], in_path: Mapping[str, str], file: str
) -> tuple[Column, ...]:
    """The columns of a file that are new: nullable, after those there are. What the path tells is not asked of the file.

    Raises UpstreamError for a name that SQL could not tell from another one.
    """
    told = [column for column in found if column.name not in in_path]
    known = matched([column.name for column in told], columns)
    new = tuple(Column(column.name, column.type) for column in told if column.name not in known)
    taken = {column.name.lower(): column.name for column in columns}
    for column in new:
        other = taken.setdefault(column.name.lower(), column.name)
        if other != column.name:
            raise rejected(file, 0, f"the columns {other} and {column.name} are one name in SQL", "rename one of them")
    return new
