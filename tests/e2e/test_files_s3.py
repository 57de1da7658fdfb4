"""Files in a bucket: listed, landed and restated as those of a folder are; errors name the bucket and the mend."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from tests.connectors.test_files import asset_of
from tests.e2e.conftest import Project, ran, rows
from tidemill.connectors.files import FilesSource
from tidemill.core.errors import DefinitionError, OperatorError

SHOP = """
[assets.sales]
kind = "files"
path = "s3://landing/sales/{day}.csv.gz"
"""
COUNTS = "-- mode: realtime\nselect day, count(*) as n from sales group by day\n"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """An S3 store with the bucket `landing`, found by the environment as any S3 client finds it."""
    words = {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1", "ENDPOINT_URL": address}
    for name, value in words.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="landing")
    yield client
    for held in client.list_objects_v2(Bucket="landing").get("Contents", []):
        client.delete_object(Bucket="landing", Key=held["Key"])


def put(store: object, day: str, text: str) -> None:
    store.put_object(Bucket="landing", Key=f"sales/{day}.csv.gz", Body=gzip.compress(text.encode()))  # type: ignore[attr-defined]


def test_files_of_a_bucket_land_and_are_restated(project: Project, store: object) -> None:
    put(store, "1", "amount\n1\n2\n")
    project.write({"tidemill.toml": SHOP, "jobs/counts.sql": COUNTS})
    with project.open() as mill:
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select * from counts") == [("1", 2)]
        put(store, "1", "amount\n1\n2\n3\n")
        put(store, "2", "amount\n4\n")
        ran(mill)
        assert rows(mill, "select * from counts order by day") == [("1", 3), ("2", 1)]
        assert ran(mill)["runs"] == 0


def test_a_bucket_that_is_not_there_is_named(store: object) -> None:
    source = FilesSource(asset_of("s3://landnig/{day}.csv"), ".")
    with pytest.raises(OperatorError, match=r"s3://landnig/\{day\}.csv cannot be listed: .*(\n.*)*AWS_ACCESS_KEY_ID"):
        list(source.list())


def test_an_empty_bucket_has_no_files(store: object) -> None:
    assert list(FilesSource(asset_of("s3://landing/{day}.csv"), ".").list()) == []


def test_a_scheme_that_nobody_knows_is_told() -> None:
    with pytest.raises(DefinitionError, match=r"asset a: .*nosuch"):
        FilesSource(asset_of("nosuch://landing/{day}.csv"), ".")
