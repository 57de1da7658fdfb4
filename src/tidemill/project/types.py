"""The types of columns: DuckDB's names, spelled one way.

Rules of this file:
  * a type is stored in lower case under DuckDB's own name, so that two spellings of one type are equal;
  * a name DuckDB does not have is an error that names the nearest, before any row is read.
"""

from __future__ import annotations

import re

from tidemill.project.words import nearest

__all__ = ["column_type"]

_PLAIN = """bigint blob boolean bit date double float hugeint integer interval json smallint time timestamp
timestamp_s timestamp_ms timestamp_ns tinyint ubigint uhugeint uinteger usmallint utinyint uuid varchar
""".split()
_ZONED = "timestamp with time zone"
_SPELLINGS = {
    **{name: name for name in _PLAIN},
    "int": "integer", "int4": "integer", "signed": "integer", "int8": "bigint", "long": "bigint",
    "int2": "smallint", "short": "smallint", "int1": "tinyint", "bool": "boolean", "logical": "boolean",
    "text": "varchar", "string": "varchar", "char": "varchar", "bpchar": "varchar", "str": "varchar",
    "float4": "float", "real": "float", "float8": "double", "double precision": "double", "bytea": "blob",
    "binary": "blob", "varbinary": "blob", "bytes": "blob", "datetime": "timestamp", "timestamp_us": "timestamp",
    "timestamp without time zone": "timestamp", "timestamptz": _ZONED, _ZONED: _ZONED,
    "numeric": "decimal(18,3)", "decimal": "decimal(18,3)", "dec": "decimal(18,3)",
    "time without time zone": "time", "timetz": "time with time zone", "time with time zone": "time with time zone",
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|numeric|dec)\((\d+)(?:,(\d+))?\)")
_SIZED_TEXT = re.compile(r"(?:varchar|char|text|string|bpchar)\(\d+\)")
_LIST = re.compile(r"(.+)\[(\d*)\]")
_NESTED = re.compile(r"(struct|map|union|enum)\s*\(.+\)", re.DOTALL)


def column_type(said: str) -> str:
    """DuckDB's name of a type; raises ValueError naming the nearest for one it does not have."""
    text = " ".join(said.lower().split())
    text = re.sub(r"\s*([(),\[\]])\s*", r"\1", text)
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    if match := _DECIMAL.fullmatch(text):
        return _decimal(said, int(match[1]), int(match[2] or 0))
    if _SIZED_TEXT.fullmatch(text):
        return "varchar"
    if match := _LIST.fullmatch(text):
        return f"{column_type(match[1])}[{match[2]}]"
    if _NESTED.fullmatch(text):
        return " ".join(said.split())
    hint = nearest(text.partition("(")[0], _SPELLINGS)
    raise ValueError(f'there is no type "{said}"' + (f"; did you mean {hint}?" if hint else ""))


def _decimal(said: str, width: int, scale: int) -> str:
    if not 1 <= width <= 38 or scale > width:
        raise ValueError(f'"{said}" has no room: a decimal has 1 to 38 digits, and no more after the point')
    return f"decimal({width},{scale})"
