"""The identity of a row that has a key, as SQL: one text for whoever writes rows and whoever plans how to change them.

Rules of this file:
  * identity is exact: NULL, '' and 'null' are three different key values, and (1, 23) is not (12, 3);
  * the text is part of what is stored: another one would give every stored row another identity.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.sql.bind import quoted

__all__ = ["key_identity"]


def key_identity(names: Sequence[str], prefix: str = "") -> str:
    """The identity of a row with this key: the values' texts as a JSON list, which keeps NULL apart from any text.

    `prefix` stands before each column's name, for one of several relations: `g.`.
    """
    if not names:
        return "'[]'"
    return f"to_json([{', '.join(f'{prefix}{quoted(name)}::VARCHAR' for name in names)}])::VARCHAR"
