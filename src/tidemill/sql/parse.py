"""SQL text to one syntax tree, or an error that names file, line and column.

Rules of this file:
  * exactly one statement, and it is a query (SELECT, WITH, FROM-first, a set operation);
  * positions in errors are positions in the user's file: the caller says on which line the text starts;
  * templating is recognised and answered with what to write instead, before a parser error can confuse;
  * the text is tokenised once and parsed once: loading a project costs little else than this.
"""

from __future__ import annotations

from sqlglot import _version, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from tidemill.core.errors import DefinitionError

__all__ = ["DIALECT", "PARSER_VERSION", "VIEW", "NotOneQuery", "compact", "line_of", "parse"]

# A cache of analysed text is good for one version of the parser only.
PARSER_VERSION = str(_version.__version__)

DIALECT = Dialect.get_or_raise("duckdb")
# The parser would count places in lists from 0, and the writer from 1 again, each where it thinks it knows the types.
DIALECT.INDEX_OFFSET = 0

VIEW = "view"
"""What an identifier's meta says it under: the view that its text was put in from."""

_TEMPLATE_MARKS = ("{{", "{%", "{#")
# Words that DuckDB reserves, so that they can be a name only after AS or a dot.
_RESERVED = frozenset(
    getattr(TokenType, name)
    for name in """SELECT FROM WHERE GROUP_BY ORDER_BY HAVING QUALIFY LIMIT OFFSET JOIN LEFT RIGHT FULL INNER OUTER CROSS
    ON USING AND OR NOT IN IS NULL LIKE BETWEEN UNION EXCEPT INTERSECT ALL DISTINCT WITH ALIAS CASE WHEN THEN ELSE END
    ASC DESC TRUE FALSE""".split()
)
_NAME_FOLLOWS = (TokenType.ALIAS, TokenType.DOT)
_TYPES = frozenset(DIALECT.parser_class.TYPE_TOKENS) - {TokenType.INTERVAL}
_OF_TYPE = (TokenType.R_PAREN, TokenType.NUMBER, TokenType.COMMA)
_STRINGS = (TokenType.STRING, TokenType.HEREDOC_STRING, TokenType.RAW_STRING)


class NotOneQuery(DefinitionError):
    """The text is not exactly one query; `found` says what it is."""

    def __init__(self, found: str, place: str, mend: str) -> None:
        super().__init__(f"a job is one query, and {found}", place=place, mend=mend)
        self.found = found


def parse(sql: str, place: str, line: int = 1) -> exp.Query:
    """The one query in `sql`, which starts on `line` of the file `place`."""
    return _parse_tokens(_tokenize(sql, place, line), sql, place, line)


def compact(sql: str, place: str, line: int = 1) -> tuple[exp.Query, str, str]:
    """The query, its text without comments, line breaks and case of keywords, and a cheap name for the same meaning:
    that text without every AS that may as well be left out."""
    tokens = _tokenize(sql, place, line)
    parts = _compact(tokens, sql)
    return _parse_tokens(tokens, sql, place, line), " ".join(parts), " ".join(_without_as(tokens, parts))


def line_of(node: exp.Expr, line: int = 1) -> int:
    """The line of the file on which the first identifier at or below `node` stands (the text starts on `line`).

    What came from a view has lines of another file, and counts as standing nowhere.
    """
    for part in node.walk():
        found = part.meta.get("line")
        if found is not None and VIEW not in part.meta:
            return int(found) + line - 1
    return line


def _tokenize(sql: str, place: str, line: int) -> list[Token]:
    try:
        tokens = DIALECT.tokenize(sql)
    except TokenError as error:
        raise DefinitionError(
            f"the SQL does not read: {error}", place=f"{place}:{line}", mend="look for a quote that is not closed"
        ) from error
    if any(mark in sql for mark in _TEMPLATE_MARKS):
        _refuse_templates(tokens, sql, place, line)
    _refuse_distance(tokens, place, line)
    return tokens


def _refuse_distance(tokens: list[Token], place: str, line: int) -> None:
    """The parser takes `<=>` for a comparison that knows NULL, as other databases have it."""
    for token in tokens:
        if token.token_type is TokenType.NULLSAFE_EQ:
            raise DefinitionError(
                "`<=>` is a distance of two lists to DuckDB, and a comparison elsewhere",
                place=f"{place}:{token.line + line - 1}",
                mend="write which is meant: list_cosine_distance(a, b), or a is not distinct from b",
            )


def _refuse_templates(tokens: list[Token], sql: str, place: str, line: int) -> None:
    """Braces inside strings are data; `{{` between tokens is a template."""
    for token in tokens:
        if token.token_type in _STRINGS or token.token_type is TokenType.IDENTIFIER:
            continue
        if sql[token.start : token.start + 2] in _TEMPLATE_MARKS:
            raise DefinitionError(
                "templating is not SQL: inputs are read from the SQL itself",
                place=f"{place}:{token.line + line - 1}",
                mend="write the name: `from orders`, not `from {{ ref('orders') }}`",
            )


def _parse_tokens(tokens: list[Token], sql: str, place: str, line: int) -> exp.Query:
    try:
        trees = DIALECT.parser().parse(_with_typed_literals(tokens), sql)
    except ParseError as error:
        raise _parse_failure(error, place, line) from error
    statements = [tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon)]
    if len(statements) != 1:
        raise NotOneQuery(
            f"these are {len(statements)} statements" if statements else "there is no SQL",
            f"{place}:{line}",
            "make each a job in a file of its own" if statements else "write one SELECT",
        )
    return _query(_as_written(statements[0]), place, line)


def _as_written(tree: exp.Expr) -> exp.Expr:
    """The tree with what the writer would change put so that it comes out as it was read."""
    for node in list(tree.find_all(exp.Bracket, exp.Decode, exp.JarowinklerSimilarity)):
        if isinstance(node, exp.Bracket):
            node.set("offset", 1)
        elif isinstance(node, exp.Decode) and node.args["charset"].name.lower() != "utf-8":
            node.replace(exp.Anonymous(this="decode", expressions=[node.this, node.args["charset"]]))
        elif node.args.get("case_insensitive") is not None:
            parts = [node.this, node.expression, node.args["case_insensitive"]]
            node.replace(exp.Anonymous(this="jaro_winkler_similarity", expressions=parts))
    return tree


def _with_typed_literals(tokens: list[Token]) -> list[Token]:
    """The tokens with parentheses around `date '2026-01-01'` before `::`, which the parser takes for a cast of the text
    alone. Returns `tokens` itself where there is nothing of the kind."""
    found: list[tuple[int, int]] = []
    for place, token in enumerate(tokens[:-1]):
        if token.token_type is TokenType.STRING and tokens[place + 1].token_type is TokenType.DCOLON:
            start = _type_before(tokens, place)
            if start is not None:
                found.append((start, place))
    made = list(tokens) if found else tokens
    for start, end in reversed(found):
        made.insert(end + 1, _parenthesis(TokenType.R_PAREN, tokens[end]))
        made.insert(start, _parenthesis(TokenType.L_PAREN, tokens[start]))
    return made


def _type_before(tokens: list[Token], place: int) -> int | None:
    """Where the type begins that stands right before a text: `decimal(10, 2) '1.50'`; None where there is none."""
    start = place - 1
    if start >= 2 and [token.text.upper() for token in tokens[start - 2 : start + 1]] == ["WITH", "TIME", "ZONE"]:
        start -= 3
    if start >= 0 and tokens[start].token_type is TokenType.R_PAREN:
        while start > 0 and tokens[start].token_type in _OF_TYPE:
            start -= 1
        start -= 1
    return start if start >= 0 and tokens[start].token_type in _TYPES else None


def _parenthesis(kind: TokenType, beside: Token) -> Token:
    text = "(" if kind is TokenType.L_PAREN else ")"
    return Token(kind, text, beside.line, beside.col, beside.start, beside.end)


def _parse_failure(error: ParseError, place: str, line: int) -> DefinitionError:
    first = error.errors[0] if error.errors else {}
    row = int(first.get("line") or 1) + line - 1
    near = str(first.get("highlight") or "")
    what = str(first.get("description") or error).split("<Token")[0].strip().rstrip(".")
    message = f"the SQL does not parse: {what[:1].lower()}{what[1:]}" + (f" near {near!r}" if near else "")
    return DefinitionError(message, place=f"{place}:{row}:{first.get('col') or 1}", mend="correct the SQL there")


def _query(tree: exp.Expr, place: str, line: int) -> exp.Query:
    if isinstance(tree, exp.Subquery | exp.Select | exp.SetOperation):
        return tree
    kind = tree.name.upper() if isinstance(tree, exp.Command) else tree.key.upper()
    found = f"this is {'an' if kind[0] in 'AEIOU' else 'a'} {kind} statement"
    mend = "write a SELECT: the job's output is created and maintained for you"
    raise NotOneQuery(found, f"{place}:{line_of(tree, line)}", mend)


def _without_as(tokens: list[Token], parts: list[str]) -> list[str]:
    """The parts but for each AS before a name; in `WITH a AS (...)` and before a text it says something."""
    if len(parts) != len(tokens):  # a number was written together with the dot before it
        return parts
    following = [*tokens[1:], None]
    return [
        part
        for part, token, after in zip(parts, tokens, following, strict=True)
        if token.token_type is not TokenType.ALIAS
        or after is None
        or after.token_type is TokenType.L_PAREN
        or after.token_type in _STRINGS
    ]


def _compact(tokens: list[Token], sql: str) -> list[str]:
    """The tokens as they were written, one space apart; reserved words upper case where they cannot be names."""
    parts: list[str] = []
    before = TokenType.SEMICOLON
    for token in tokens:
        kind = token.token_type
        if kind in _RESERVED and before not in _NAME_FOLLOWS:
            parts.append(token.text.upper())
        elif kind is TokenType.NUMBER and before is TokenType.DOT and sql[token.start - 1] == ".":
            parts[-1] += sql[token.start : token.end + 1]
        else:
            parts.append(sql[token.start : token.end + 1])
        before = kind
    return parts
