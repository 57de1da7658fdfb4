"""What tidemill knows about DuckDB's functions: tables of names, and the one way to ask a node for its name.

Rules of this file:
  * every table is data and says what its members have in common; decisions live with those who read the tables;
  * names are DuckDB's, lower case, all spellings: a test compares the tables with `duckdb_functions()`, so that a new
    DuckDB that adds a volatile function or an aggregate fails the build instead of a user's table.
"""

from __future__ import annotations

from sqlglot import exp

__all__ = [
    "AGGREGATES",
    "EXACT",
    "FREE_TABLE_FUNCTIONS",
    "INEXACT",
    "INEXACT_MACROS",
    "LISTS",
    "ONE_FOR_ALL",
    "ORDERED_BY_ARGUMENT",
    "ORDER_BOUND",
    "SORTERS",
    "VOLATILE",
    "name_of",
    "told_name",
    "written_name",
]

# The result depends on when, where or how often the query runs (value: what kind of dependence).
VOLATILE: dict[str, str] = {
    **dict.fromkeys(
        """now today current_date current_time current_timestamp current_datetime get_current_time
        get_current_timestamp transaction_timestamp localtime localtimestamp statement_timestamp clock_timestamp
        current_localtime current_localtimestamp""".split(),
        "time",
    ),
    **dict.fromkeys(
        "random rand setseed uuid uuidv4 uuidv7 gen_random_uuid generate_uuid reservoir_quantile".split(), "chance"
    ),
    **dict.fromkeys("nextval currval setval".split(), "sequence"),
    **dict.fromkeys(
        """current_database current_catalog current_schema current_schemas current_setting current_user user
        session_user current_role current_connection_id current_query current_query_id current_transaction_id
        getvariable getenv in_search_path txid_current stats vector_type version pg_backend_pid
        sleep_ms write_log current_version""".split(),
        "session",
    ),
}

# Aggregates whose result depends on the order in which rows arrive, so that they need an ORDER BY inside.
ORDER_BOUND: frozenset[str] = frozenset(
    """first last any_value arbitrary mode list array_agg string_agg group_concat listagg first_value last_value
    variant_group_object lttb""".split()
)

# Aggregates that pick by an argument and break ties by arrival: an ORDER BY of the arguments makes them total.
ORDERED_BY_ARGUMENT: frozenset[str] = frozenset(
    """arg_max arg_min argmax argmin max_by min_by arg_max_null arg_min_null arg_max_nulls_last
    arg_min_nulls_last approx_top_k""".split()
)

# Aggregates that show one value for all those of the group that are equal to it.
ONE_FOR_ALL: frozenset[str] = frozenset(
    """min max median mad mode quantile quantile_cont quantile_disc percentile_cont percentile_disc histogram
    histogram_exact approx_top_k approx_quantile""".split()
)

# Functions that put a list in order: below them, the order in which it was gathered is seen in equal elements only.
SORTERS: frozenset[str] = frozenset(
    "list_sort array_sort list_reverse_sort array_reverse_sort sort_array list_grade_up array_grade_up".split()
)

# Macros of DuckDB that add in floating point inside, where no ORDER BY can reach (value: what to write instead).
INEXACT_MACROS: dict[str, str] = {
    **dict.fromkeys(("geomean", "geometric_mean"), "exp(avg(ln(x)))"),
    **dict.fromkeys(("wavg", "weighted_avg"), "sum(x * weight) / sum(weight)"),
}

# Aggregates that compute in floating point whatever their input: the bits depend on the order of the rows.
INEXACT: frozenset[str] = frozenset(
    """stddev stddev_samp stddev_pop std var_samp var_pop variance sem corr covar_pop covar_samp
    regr_avgx regr_avgy regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy skewness kurtosis kurtosis_pop
    fsum kahan_sum sumkahan favg product entropy approx_quantile""".split()
)

AGGREGATES: frozenset[str] = (
    ORDER_BOUND
    | ORDERED_BY_ARGUMENT
    | INEXACT
    | INEXACT_MACROS.keys()
    | frozenset(
        """avg mean sum sum_no_overflow count count_star count_if countif min max bool_and bool_or bit_and bit_or
        bit_xor bitstring_agg median mad quantile quantile_cont quantile_disc histogram histogram_exact
        approx_count_distinct decimal_average combine_aggr regr_count reservoir_quantile logical_or logical_and
        percentile_cont percentile_disc""".split()
    )
)

# Table functions whose rows follow from their arguments alone.
FREE_TABLE_FUNCTIONS: frozenset[str] = frozenset("range generate_series unnest json_each json_tree repeat".split())


# Functions whose result is a list whatever their arguments are.
LISTS: frozenset[str] = frozenset(
    """list_filter list_transform list_apply list_concat list_cat array_concat list_distinct list_sort array_sort
    list_reverse_sort list_reverse list_slice array_slice list_append list_prepend list_value list_pack list_select
    list_where list_resize list_intersect list_zip flatten range generate_series map_keys map_values map_entries
    string_split str_split split string_to_array regexp_split_to_array string_split_regex regexp_extract_all
    array_append array_prepend array_filter array_transform""".split()
)

# Functions that give whole numbers, whatever their arguments are.
EXACT: frozenset[str] = frozenset(
    """array_contains array_has array_has_all array_has_any array_indexof array_length array_position array_unique ascii
    bit_count bit_length bit_position cardinality century char_length character_length contains damerau_levenshtein
    date_diff date_sub datediff datesub day dayofmonth dayofweek dayofyear decade editdist3 ends_with epoch_ms epoch_ns
    epoch_us era factorial gcd get_bit greatest_common_divisor hamming hash hour instr isfinite isinf isnan isodow isoyear
    lcm least_common_multiple len length length_grapheme levenshtein list_contains list_has list_has_all list_has_any
    list_indexof list_position list_unique map_contains microsecond millennium millisecond minute mismatches month
    nanosecond octet_length ord position prefix quarter regexp_full_match regexp_matches second sign signbit starts_with
    strlen strpos suffix timezone_hour timezone_minute unicode week weekday weekofyear year yearweek""".split()
)

_KNOWN = AGGREGATES | frozenset(VOLATILE) | FREE_TABLE_FUNCTIONS
_CLASS_NAMES: dict[type[exp.Expr], str] = {}


def name_of(node: exp.Expr) -> str:
    """The lower-case name of a function node; of several spellings the one that the tables here use."""
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
        return str(node.this).lower()
    kind = type(node)
    found = _CLASS_NAMES.get(kind)
    if found is None:
        found = _CLASS_NAMES[kind] = _class_name(kind)
    return found


def _class_name(kind: type[exp.Expr]) -> str:
    names = [name.lower() for name in kind.sql_names()] if issubclass(kind, exp.Func) else [kind.key]
    if kind is exp.GroupConcat:
        return "string_agg"
    known = [name for name in names if name in _KNOWN]
    return (known or names or [kind.key])[0]


def told_name(node: exp.Expr) -> str:
    """The name of a function as people are told it: DuckDB's own where it has several (list, not array_agg)."""
    return "list" if isinstance(node, exp.ArrayAgg) else name_of(node)


def written_name(node: exp.Expr) -> str:
    """The lower-case name under which DuckDB will see this function, '' for what is not written as a call."""
    head, bracket, _ = node.sql(dialect="duckdb").partition("(")
    return head.lower() if bracket and head.isidentifier() else ""
