"""Loading a project: every problem at its place with its mend, and everything that is good is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tidemill.core.errors import DefinitionError, NotFound
from tidemill.core.model import AssetKind, Home, Materialized, Mode, Takes
from tidemill.project import Definitions, load

ORDERS = """[assets.orders]
kind = "topic"
id = "id"
[assets.orders.columns]
id = "varchar"
customer = "varchar"
amount = "decimal(10,2)"
day = "date"
"""
Write = Callable[..., Definitions]


@pytest.fixture
def project(tmp_path: Path) -> Write:
    """Write files (paths as keys, a `/` where a keyword cannot have one as `__`) and load them."""

    def write(files: Mapping[str, str], env: str | None = None) -> Definitions:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return load(tmp_path, env)

    return write


def said(loaded: Definitions) -> list[str]:
    return [str(problem) for problem in loaded.problems]


def test_a_project_loads_its_three_kinds_of_jobs(project: Write) -> None:
    loaded = project(
        {
            "tidemill.toml": f'[project]\nname = "shop"\ntimezone = "Europe/Berlin"\n{ORDERS}'
            '[jobs.send]\ninputs = ["large"]\noutputs = ["sent"]\ncommand = ["python", "send.py"]\n',
            "jobs/per_day.sql": "-- mode: realtime\nselect day, count(*) as n from Orders group by all",
            "jobs/more.py": "import tidemill as tm\n\n"
            "@tm.job(inputs='orders', output='large', retries=5)\ndef large(row: dict) -> dict:\n    return row\n",
        }
    )
    assert said(loaded) == []
    assert (loaded.name, loaded.timezone) == ("shop", "Europe/Berlin")
    jobs = loaded.jobs
    assert [(job.name, job.takes, job.inputs, job.outputs, job.home) for job in jobs.values()] == [
        ("per_day", Takes.SQL, ("orders",), ("per_day",), Home.TABLES),
        ("large", Takes.ROW, ("orders",), ("large",), Home.TABLES),
        ("send", Takes.COMMAND, ("large",), ("sent",), Home.LEDGER),
    ]
    assert jobs["per_day"].mode is Mode.REALTIME
    assert jobs["per_day"].key == ("day",)
    assert jobs["large"].retries == 5
    assert str(jobs["large"].place) == "jobs/more.py:4"
    assert not jobs["send"].rebuilds
    assert {name: asset.kind for name, asset in loaded.assets.items()} == {
        "orders": AssetKind.TOPIC,
        "per_day": AssetKind.TABLE,
        "large": AssetKind.TABLE,
        "sent": AssetKind.EXTERNAL,
    }
    assert loaded.functions["large"]({"a": 1}) == {"a": 1}


# Exact texts: (files, the problems).
PROBLEMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "an unknown key of an asset": (
        {"tidemill.toml": ORDERS.replace('id = "id"', 'event_tme = "day"')},
        ["tidemill.toml:3: asset orders: unknown word event_tme\n  mend: write event_time"],
    ),
    "a word that the kind does not have": (
        {"tidemill.toml": '[assets.x]\nkind = "external"\nid = "a"\n'},
        [
            ("tidemill.toml:3: asset x: id says nothing for kind external\n"
            "  mend: leave id out, or choose a kind that has it: topic")
        ],
    ),
    "a type that is not there": (
        {"tidemill.toml": ORDERS.replace('"date"', '"dat"')},
        ['tidemill.toml:4: asset orders: columns: column day: there is no type "dat"; did you mean date?\n  mend: mend columns'],
    ),
    "an option that a format does not have": (
        {"tidemill.toml": '[assets.x]\nkind = "files"\npath = "in/{d}.csv"\ncsv.encodng = "latin-1"\n'},
        ["tidemill.toml:4: asset x: csv: csv has no option encodng (did you mean encoding?)\n  mend: mend csv"],
    ),
    "a delimiter that stands between nothing": (
        {"tidemill.toml": '[assets.x]\nkind = "files"\npath = "in/{d}.csv"\ncsv.delimiter = ""\n'},
        ['tidemill.toml:4: asset x: csv: delimiter: write one character that is no quote, such as ";"\n  mend: mend csv'],
    ),
    "an encoding that is not there": (
        {"tidemill.toml": '[assets.x]\nkind = "files"\npath = "in/{d}.csv"\ncsv.encoding = "latin-one"\n'},
        [
            ('tidemill.toml:4: asset x: csv: encoding: "latin-one" is not an encoding; write utf-8, utf-16, latin-1, '
            "cp1252 or another that Python knows\n  mend: mend csv")
        ],
    ),
    "a marker in another folder": (
        {"tidemill.toml": '[assets.x]\nkind = "files"\npath = "in/{d}.csv"\nmarker = "{name}.done"\n'},
        [
            ('tidemill.toml:4: asset x: marker: "{name}.done" is not a marker; write a name such as _SUCCESS, or '
            "{file}.done for one a file\n  mend: mend marker")
        ],
    ),
    "a marker and a manifest": (
        {"tidemill.toml": '[assets.x]\nkind = "files"\npath = "in/{d}.csv"\nmarker = "OK"\nmanifest = "ALL"\n'},
        ["tidemill.toml:1: asset x: it has a marker and a manifest\n  mend: leave one of them out"],
    ),
    "a limit that is none": (
        {"tidemill.toml": '[assets.x]\nkind = "files"\npath = "in/{d}.csv"\nunpacked_bytes_max = 0\n'},
        [
            ("tidemill.toml:4: asset x: unpacked_bytes_max: 0 is not a whole number of 1 or more\n"
            "  mend: mend unpacked_bytes_max")
        ],
    ),
    "a key that is no column": (
        {"tidemill.toml": ORDERS.replace('id = "id"', 'id = "id"\nkey = ["custmer"]', 1)},
        ["tidemill.toml:1: asset orders: key names custmer, which is not a column\n  mend: write customer"],
    ),
    "an unknown table": (
        {"tidemill.toml": "[asset.x]\n"},
        ["tidemill.toml:1: unknown table asset\n  mend: write [assets]"],
    ),
    "a time zone that is not there": (
        {"tidemill.toml": '[project]\nname = "a"\ntimezone = "Berlin"\n'},
        ['tidemill.toml:3: there is no time zone "Berlin"\n  mend: use a name such as "Europe/Berlin"'],
    ),
    "broken toml": (
        {"tidemill.toml": '[project]\nname = "a\n'},
        ["tidemill.toml:2: illegal character '\\n'\n  mend: see https://toml.io for the format"],
    ),
    "an input that is not there": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- mode: batch\nselect *\nfrom ordrs"},
        ["jobs/a.sql:3: job a: there is no asset ordrs\n  mend: write orders, or declare ordrs"],
    ),
    "two writers": (
        {
            "tidemill.toml": ORDERS,
            "jobs/a.sql": "-- output: t\nselect id from orders",
            "jobs/b.sql": "-- output: t\nselect id from orders",
        },
        [
            ("jobs/b.sql:1: jobs a and b both write t\n"
            "  mend: an asset has one writer: give one of them another output (a stands at jobs/a.sql:1)")
        ],
    ),
    "a circle": (
        {"jobs/a.sql": "select x from c", "jobs/b.sql": "select x from a", "jobs/c.sql": "select x from b"},
        [
            ("jobs/a.sql:1: circular mapping: a -> b -> c -> a\n"
            "  mend: a job cannot read, even through others, what it writes")
        ],
    ),
    "a wrong word in a header": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- key: id\n-- mode: realtim\nselect id from orders"},
        [
            ('jobs/a.sql:2: mode: "realtim" is not one of realtime, microbatch, batch (did you mean realtime?)\n'
            "  mend: mode: realtime | microbatch | batch")
        ],
    ),
    "a wrong word in an override": (
        {"tidemill.toml": f'{ORDERS}[jobs.a]\nmode = "realtim"\n', "jobs/a.sql": "select id from orders"},
        [
            ('tidemill.toml:10: mode: "realtim" is not one of realtime, microbatch, batch (did you mean realtime?)\n'
            "  mend: mode: realtime | microbatch | batch")
        ],
    ),
    "an override of no job": (
        {"tidemill.toml": f'{ORDERS}[jobs.per_dy]\nmode = "batch"\n', "jobs/per_day.sql": "select id from orders"},
        ["tidemill.toml:9: there is no job per_dy to override\n  mend: write [jobs.per_day]"],
    ),
    "a view read by Python": (
        {
            "tidemill.toml": ORDERS,
            "jobs/v.sql": "-- materialized: view\nselect id from orders",
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='v')\ndef p(row: dict): ...\n",
        },
        [
            ("jobs/p.py:3: job p: v is a view, and a view has no changes to give to a row job\n"
            "  mend: say materialized: table in jobs/v.sql")
        ],
    ),
    "outputs in different stores": (
        {
            "tidemill.toml": ORDERS + '[assets.t]\nkind = "topic"\n[assets.t.columns]\nid = "varchar"\n',
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders', outputs=['t', 'u'])\ndef p(row: dict): ...\n",
        },
        [
            ("jobs/p.py:3: job p: its outputs t (topic) and u (table) live in different stores, so they cannot be "
            "committed together\n  mend: make them of one kind, or make two jobs of it")
        ],
    ),
    "an append topic that could lose rows": (
        {
            "tidemill.toml": ORDERS + '[assets.t]\nkind = "topic"\n[assets.t.columns]\nid = "varchar"\n',
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders', output='t', takes='full')\ndef p(orders): ...\n",
        },
        [
            ("jobs/p.py:3: job p can take rows back (a full job's result is compared with the one before), "
            "and t is an append topic\n  mend: write a table, or make the topic upsert with a key")
        ],
    ),
    "a condition over no input": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- when: orders & stock\nselect id from orders"},
        ["jobs/a.sql:1: job a: when names stock, which is not an input\n  mend: the inputs are orders"],
    ),
    "a gate on no column": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- gate: dat\nselect id from orders"},
        ["jobs/a.sql:1: job a: gate names dat, which no input has\n  mend: write gate: day"],
    ),
    "a gate on a type whose values have several spellings": (
        {
            "tidemill.toml": '[assets.sales]\nkind = "topic"\ncomplete.at = ["x"]\n'
            '[assets.sales.columns]\nid = "varchar"\nat = "timestamp"\n',
            "jobs/a.sql": "-- gate: at\nselect id from sales",
        },
        [
            ("jobs/a.sql:1: job a: gate names at, which is a timestamp in sales\n"
            "  mend: gate on a date, a varchar or a whole number")
        ],
    ),
    "a gate that would never open": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- gate: day\nselect id from orders"},
        [
            ("jobs/a.sql:1: job a: no input says what makes a day complete, so its gate would never open\n"
            '  mend: add complete.COLUMN = ["..."] to the asset that arrives in parts')
        ],
    ),
    "a start by no asset": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- on: order\nselect id from orders"},
        ["jobs/a.sql:1: job a: on names order, which is no asset\n  mend: write on: orders"],
    ),
    "a Python file that raises": (
        {"tidemill.toml": ORDERS, "jobs/p.py": "import tidemill as tm\n\nx = 1 / 0\n"},
        ["jobs/p.py:3: ZeroDivisionError: division by zero\n  mend: mend the file; the other files are loaded"],
    ),
    "a bare decorator": (
        {"tidemill.toml": ORDERS, "jobs/p.py": "import tidemill as tm\n@tm.job\ndef p(row: dict): ...\n"},
        ['jobs/p.py:2: @tm.job does not say what the job reads\n  mend: write @tm.job(inputs="ASSET")'],
    ),
    "a Python job without inputs": (
        {"tidemill.toml": ORDERS, "jobs/p.py": "import tidemill as tm\n@tm.job(mode='batch')\ndef p(row: dict): ...\n"},
        ['jobs/p.py:2: @tm.job does not say what the job reads\n  mend: write @tm.job(inputs="ASSET")'],
    ),
    "a Python file that does not parse": (
        {"tidemill.toml": ORDERS, "jobs/p.py": "x = 1\ndef f(:\n"},
        ["jobs/p.py:2: SyntaxError: invalid syntax\n  mend: mend the file; the other files are loaded"],
    ),
    "a function that does not tell what it takes": (
        {"tidemill.toml": ORDERS, "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders')\ndef p(x): ...\n"},
        [
            ("jobs/p.py:3: the annotations of p do not tell what it takes\n"
            "  mend: annotate the argument (dict, pa.Table or tm.Run), or say takes='row', 'table', 'full' or 'run'")
        ],
    ),
    "an async function": (
        {
            "tidemill.toml": ORDERS,
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders')\nasync def p(row: dict): return row\n",
        },
        [
            ("jobs/p.py:3: job p is an async function, and a job's function is called and its result taken\n"
            "  mend: write def p(...), and inside it asyncio.run(...) for what is async")
        ],
    ),
    "a function that yields": (
        {
            "tidemill.toml": ORDERS,
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders')\ndef p(row: dict): yield row\n",
        },
        [
            ("jobs/p.py:3: job p yields its rows, and a job's function returns them\n"
            "  mend: collect them in a list and return it")
        ],
    ),
    "rows without the name of the output they are for": (
        {
            "tidemill.toml": ORDERS,
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders', outputs=['a', 'b'])\n"
            "def p(row: dict):\n    if row['id']:\n        return {'a': row}\n    return {'id': row['id']}\n",
        },
        [
            ("jobs/p.py:6: job p writes a, b, and this returns a dict with id\n"
            "  mend: return {'a': ..., 'b': ...}: for each output its rows")
        ],
    ),
    "a list where rows are for two outputs": (
        {
            "tidemill.toml": ORDERS,
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders', outputs=['a', 'b'])\n"
            "def p(row: dict): return [row]\n",
        },
        [
            ("jobs/p.py:3: job p writes a, b, and this returns a list\n"
            "  mend: return {'a': ..., 'b': ...}: for each output its rows")
        ],
    ),
    "a query that reads nothing": (
        {"tidemill.toml": ORDERS, "jobs/a.sql": "-- mode: batch\nselect 1 as x"},
        [
            ("jobs/a.sql:1: job a reads no asset, so nothing would ever start it\n"
            "  mend: read an asset, or make constants a view: -- materialized: view")
        ],
    ),
    "a password in the file": (
        {"tidemill.toml": '[connections.crm]\nurl = "postgres://app:hunter2@db/${NAME}"\n'
         '[connections.mail]\nport = 25\nlogin = {user = "ada", api_key = "hunter2"}\n'},
        [
            ("tidemill.toml:2: connection crm: a secret stands in url\n"
            "  mend: keep it elsewhere and write its name: ${NAME} in the environment, or file:PATH"),
            ("tidemill.toml:5: connection mail: a secret stands in login.api_key\n"
            "  mend: keep it elsewhere and write its name: ${NAME} in the environment, or file:PATH"),
        ],
    ),
    "a declaration that nobody keeps": (
        {"jobs/p.py": "from tidemill.engines.python import topic\ntopic('x', columns={'a': 'integer'})\n"},
        [
            ("jobs/p.py:2: topic(...) declares an asset that no name keeps\n"
            "  mend: give it a name: orders = tm.topic(...)")
        ],
    ),
    "a command that is no list": (
        {"tidemill.toml": f'{ORDERS}[jobs.x]\ninputs = ["orders"]\ncommand = "python send.py"\n'},
        ['tidemill.toml:11: job x: command is not a list of words\n  mend: write command = ["python", "send.py"]'],
    ),
    "a table written by a command": (
        {"tidemill.toml": '[assets.t]\nkind = "table"\n[assets.e]\nkind = "external"\n'
         '[jobs.x]\ninputs = ["e"]\noutputs = ["t"]\ncommand = ["true"]\n'},
        [
            ("tidemill.toml:5: job x: a command job cannot write the table t\n"
            "  mend: return rows from a row, table or full job, or declare the output as external")
        ],
    ),
    "rows of an external thing": (
        {"tidemill.toml": '[assets.e]\nkind = "external"\n', "jobs/a.sql": "select 1 as x from e"},
        [
            ("jobs/a.sql:1: job a: e is an external, which has no rows to read\n"
            "  mend: let it start the job instead: on: e")
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_told_with_its_place_and_its_mend(project: Write, name: str) -> None:
    files, problems = PROBLEMS[name]
    assert said(project(files)) == problems


def test_all_problems_come_together_and_the_good_definitions_load(project: Write) -> None:
    loaded = project(
        {
            "tidemill.toml": ORDERS + '[assets.bad]\nkind = "tpic"\n',
            "jobs/good.sql": "select id from orders",
            "jobs/broken.sql": "selec id from orders",
            "jobs/raises.py": "raise ValueError('no')\n",
            "jobs/fine.py": "import tidemill as tm\n@tm.job(inputs='orders')\ndef fine(row: dict): ...\n",
        }
    )
    assert sorted(loaded.jobs) == ["fine", "good"]
    assert [problem.place for problem in loaded.problems] == [
        "tidemill.toml:10",
        "jobs/raises.py:1",
        "jobs/broken.sql:1:13",
    ]
    with pytest.raises(DefinitionError, match="3 problems"):
        loaded.check()


def test_a_topic_without_an_id_is_a_warning(project: Write) -> None:
    loaded = project({"tidemill.toml": ORDERS.replace('id = "id"\n', "", 1)})
    assert said(loaded) == []
    assert [str(warning) for warning in loaded.warnings] == [
        (
            "tidemill.toml:1: topic orders has no id, so an event that is sent again counts again (at-least-once at the door)\n"
            '  mend: add id = "COLUMN", the column that identifies an event'
        )
    ]


def test_an_environment_lies_over_the_project(project: Write) -> None:
    toml = (
        '[connections.crm]\nurl = "${CRM_URL}"\nretries = 3\n[env.prod.connections.crm]\nurl = "file:crm.url"\n'
        f'{ORDERS}[env.prod.jobs.a]\nmode = "batch"\n[jobs.a]\nmode = "realtime"\n'
    )
    files = {"tidemill.toml": toml, "jobs/a.sql": "select id from orders"}
    assert project(files).jobs["a"].mode is Mode.REALTIME
    prod = project(files, "prod")
    assert prod.jobs["a"].mode is Mode.BATCH
    assert prod.connections["crm"]["retries"] == 3
    assert repr(prod.connections["crm"]["url"]) == "Secret(file:crm.url)"


def test_connections_name_their_secrets_and_say_everything_else(project: Write) -> None:
    loaded = project(
        {
            "tidemill.toml": '[connections.crm]\nurl = "postgres://app:${PASSWORD}@db/crm?sslmode=require"\n'
            'password = "file:crm.password"\nsecret_name = "crm"\ntokens_max = 3\nkeepalive = true\n'
            '[connections.web]\nurl = "https://example.org/a:b@c"\nuser = "ada"\npassword = ""\n'
            '[connections.lake]\ntoken = "google_default"\ncredentials = "/etc/lake.json"\nmax_token = 5\n'
        }
    )
    assert said(loaded) == []


def test_a_function_that_returns_what_nobody_can_foresee_is_taken(project: Write) -> None:
    source = (
        "import tidemill as tm\n\n@tm.job(inputs='orders', outputs=['a', 'b'])\ndef p(row: dict):\n"
        "    def inner():\n        return [1]\n    name = 'a' if inner() else 'b'\n"
        "    if row['id']:\n        return {name: row, **{}}\n    if row['day']:\n        return\n    return dict(a=row)\n"
    )
    assert said(project({"tidemill.toml": ORDERS, "jobs/p.py": source})) == []


def test_what_a_job_returns_that_acts_outside_is_its_own_affair(project: Write) -> None:
    source = (
        "import tidemill as tm\n\n@tm.job(inputs='orders', outputs=['mail', 'log'])\ndef send(run: tm.Run):\n"
        "    return {'status': 200}\n"
    )
    assert said(project({"tidemill.toml": ORDERS, "jobs/send.py": source})) == []


def test_an_environment_that_is_not_there_names_the_nearest(project: Write) -> None:
    loaded = project({"tidemill.toml": "[env.prod.project]\nname = 'x'\n"}, "prd")
    assert said(loaded) == ["tidemill.toml: there is no environment prd\n  mend: choose prod"]


def test_a_view_stands_in_its_readers_and_is_no_job(project: Write) -> None:
    loaded = project(
        {
            "tidemill.toml": ORDERS,
            "jobs/v.sql": "-- materialized: view\nselect customer, amount from orders where amount > 0",
            "jobs/w.sql": "-- materialized: view\nselect customer from v",
            "jobs/a.sql": "select customer, count(*) as n from w group by all",
        }
    )
    assert said(loaded) == []
    assert list(loaded.jobs) == ["a"]
    assert loaded.jobs["a"].inputs == ("orders",)
    assert "amount > 0" in loaded.jobs["a"].transform
    assert sorted(loaded.views) == ["v", "w"]
    assert "amount > 0" in loaded.views["w"]
    assert loaded.assets["v"].kind is AssetKind.VIEW


def test_an_extract_has_a_path_and_a_format(project: Write) -> None:
    loaded = project(
        {
            "tidemill.toml": ORDERS + '[assets.b]\nkind = "extract"\npath = "out/b.parquet"\n',
            "jobs/a.sql": "-- materialized: extract\nselect id from orders",
            "jobs/b.sql": "select id from orders",
        }
    )
    assert said(loaded) == []
    found = {name: (loaded.assets[name].path, loaded.assets[name].format) for name in ("a", "b")}
    assert found == {"a": ("extracts/a.csv", "csv"), "b": ("out/b.parquet", "parquet")}
    assert loaded.jobs["b"].materialized is Materialized.EXTRACT
    assert loaded.jobs["a"].home is Home.LEDGER


def test_a_declared_table_gives_its_job_columns_and_key(project: Write) -> None:
    loaded = project(
        {
            "tidemill.toml": ORDERS + '[assets.p]\nkind = "table"\nkey = ["id"]\n[assets.p.columns]\nid = "varchar"\n',
            "jobs/p.py": "import tidemill as tm\n@tm.job(inputs='orders')\ndef p(row: dict): ...\n",
        }
    )
    assert loaded.jobs["p"].key == ("id",)
    assert [column.name for column in loaded.jobs["p"].columns] == ["id"]


def test_a_single_python_file_is_a_project(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from tidemill.engines.python import job, topic\n"
        "orders = topic('orders', id='id', columns={'id': 'varchar'})\n"
        "@job(inputs='orders')\ndef copied(row: dict): return row\n"
        "@job(inputs='missing')\ndef lost(row: dict): return row\n"
    )
    loaded = load(tmp_path / "shop.py")
    assert loaded.name == "shop"
    assert sorted(loaded.jobs) == ["copied", "lost"]
    assert said(loaded) == [
        (
            "shop.py:6: job lost: there is no asset missing\n"
            '  mend: declare it: missing = tm.topic("missing", columns={...})'
        )
    ]


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="make one with: tidemill init DIR"):
        load(tmp_path / "nowhere")


def test_path_names_become_columns(project: Write) -> None:
    toml = '[assets.w]\nkind = "files"\npath = "in/{site}/{date}.csv"\n[assets.w.csv]\nnull = "NA"\n'
    loaded = project({"tidemill.toml": toml + '[assets.w.columns]\ndate = "date"\ntemp = "double"\n'})
    assert said(loaded) == []
    asset = loaded.assets["w"]
    assert [(column.name, column.type) for column in asset.columns] == [
        ("date", "date"),
        ("temp", "double"),
        ("site", "varchar"),
    ]
    assert (asset.format, asset.options["null"]) == ("csv", "NA")


def test_a_tracking_topic_has_its_columns_given(project: Write) -> None:
    asset = project({"tidemill.toml": '[assets.t]\nkind = "topic"\ntracking = ["track"]\n'}).assets["t"]
    assert (asset.id, asset.event_time, len(asset.columns)) == ("message_id", "event_time", 9)


VERSIONS = [
    ("a comment", "-- a remark\nselect id from orders", True),
    ("another mode", "-- mode: realtime\nselect id from orders", True),
    ("another layout", "select\n    id\nfrom orders", True),
    ("another query", "select id, day from orders", False),
    ("another key", "-- key: id\nselect id from orders", False),
    ("another gate", "-- gate: day\nselect id from orders", False),
]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("select sum(id) as s from orders as o", "select sum(id) s from orders o", True),
        (
            "with q as (select id from orders) select id as a from q",
            "WITH q AS (select id FROM orders) select id a from q",
            True,
        ),
        ("select 'a as b' as x from orders", "select 'a b' as x from orders", False),
        ("select id as a from orders", "select id as b from orders", False),
    ],
)
def test_an_as_that_may_be_left_out_is_no_other_definition(project: Write, one: str, other: str, is_same: bool) -> None:
    before = project({"tidemill.toml": ORDERS, "jobs/a.sql": one}).jobs["a"].version
    assert (project({"jobs/a.sql": other}).jobs["a"].version == before) is is_same


@pytest.mark.parametrize(("what", "sql", "is_same"), VERSIONS, ids=[case[0] for case in VERSIONS])
def test_a_version_changes_with_the_result_only(project: Write, what: str, sql: str, is_same: bool) -> None:
    before = project({"tidemill.toml": ORDERS, "jobs/a.sql": "select id from orders"}).jobs["a"].version
    assert (project({"jobs/a.sql": sql}).jobs["a"].version == before) is is_same, what


def test_a_star_changes_its_version_with_the_columns_of_its_input(project: Write) -> None:
    before = project({"tidemill.toml": ORDERS, "jobs/a.sql": "select * from orders"}).jobs["a"].version
    assert project({"tidemill.toml": ORDERS + 'note = "varchar"\n'}).jobs["a"].version != before


def test_a_functions_version_is_its_own_source(project: Write) -> None:
    head = "import tidemill as tm\n"
    function = "@tm.job(inputs='orders')\ndef p(row: dict):\n    return {'id': row['id']}\n"
    before = project({"tidemill.toml": ORDERS, "jobs/p.py": head + function}).jobs["p"].version
    moved = head + "\n# moved\nOTHER = 1\n\n" + function.replace("inputs='orders'", "inputs='orders', mode='realtime'")
    documented = function.replace("    return", "    'Documented.'\n    return")
    assert project({"jobs/p.py": moved}).jobs["p"].version == before
    assert project({"jobs/p.py": head + documented}).jobs["p"].version == before
    assert project({"jobs/p.py": head + function.replace("row['id']", "row['day']")}).jobs["p"].version != before


def test_a_second_load_looks_at_no_sql_again_and_a_broken_cache_only_costs_time(project: Write, tmp_path: Path) -> None:
    (tmp_path / ".tidemill").mkdir()
    first = project({"tidemill.toml": ORDERS, "jobs/a.sql": "select id from orders"})
    kept = tmp_path / ".tidemill" / "definitions-cache.json"
    written = kept.stat().st_mtime_ns
    assert load(tmp_path).jobs == first.jobs
    assert kept.stat().st_mtime_ns == written
    kept.write_text("{broken")
    assert load(tmp_path).jobs == first.jobs
