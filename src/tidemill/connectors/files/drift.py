"""What becomes of columns that a file has and its asset does not, and the other way round.

Rules of this file:
  * another order and another case of letters are no difference; a name that is exactly right goes before one that is
    right but for its case;
  * `strict` (the default) rejects the file at its first column that is not declared; `ignore` leaves such columns out,
    and says so; `evolve` adds them;
  * whatever the policy, a column that is missing is null, and rejects the file where it is required; a file that has
    columns and none of the asset's is another file, and is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tidemill.connectors.files.content import rejected
from tidemill.core.errors import UpstreamError
from tidemill.core.model import Column
from tidemill.core.schema import Policy

__all__ = ["added", "foreign", "matched", "settled", "stranger"]


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
    names: Sequence[str], columns: Sequence[Column], policy: Policy, file: str, line: int = 0
) -> tuple[list[str], tuple[str, ...]]:
    """The names of a file's columns, with those that are declared as they are declared, and those to be left out.

    Raises UpstreamError where the policy does not allow what the file has.
    """
    known = matched(names, columns)
    strangers = tuple(name for name in names if name not in known)
    if strangers and policy is Policy.STRICT:
        raise stranger(strangers[0], file, line)
    if strangers and not known and columns:
        raise foreign(strangers, file, line)
    for column in columns if names else ():
        if column.required and column.name not in known.values():
            raise missing(column, file, line)
    return [known.get(name, name) for name in names], strangers if policy is Policy.IGNORE else ()


def stranger(name: str, file: str, line: int, thing: str = "column") -> UpstreamError:
    """The error that rejects a file for a column that is not declared."""
    mend = f'declare {name}, or say schema = "evolve" to add such {thing}s, or "ignore" to leave them out'
    return rejected(file, line, f"the {thing} {name} is not declared", mend)


def missing(column: Column, file: str, line: int) -> UpstreamError:
    """The error that rejects a file for a required column that it does not have."""
    mend = "mend the file, or declare it as not required"
    return rejected(file, line, f"the required column {column.name} is missing", mend)


def foreign(names: Sequence[str], file: str, line: int) -> UpstreamError:
    """The error that rejects a file that has nothing of its asset: every row of it would be empty."""
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    mend = "check that the file belongs here, and that its first line names the columns"
    return rejected(file, line, f"it has none of the asset's columns, but {listed}", mend)


def added(
    names: Iterable[str],
    infer: Callable[[], Iterable[Column]],
    columns: Sequence[Column],
    in_path: Mapping[str, str],
    file: str,
) -> tuple[Column, ...]:
    """The columns of a file that are new: nullable, after those there are. What the path tells is not asked of the file.

    `infer` tells the columns that have a value; it is asked only where a name is new. Raises UpstreamError for a name
    that SQL could not tell from another one, and for a file that has nothing of its asset.
    """
    told = [name for name in names if name not in in_path]
    known = matched(told, columns)
    strangers = [name for name in told if name not in known]
    if not strangers:
        return ()
    if not known and any(column.name not in in_path for column in columns):
        raise foreign(strangers, file, 0)
    new = tuple(Column(column.name, column.type) for column in infer() if column.name in strangers)
    taken = {column.name.lower(): column.name for column in columns}
    for column in new:
        other = taken.setdefault(column.name.lower(), column.name)
        if other != column.name:
            raise rejected(file, 0, f"the columns {other} and {column.name} are one name in SQL", "rename one of them")
    return new
