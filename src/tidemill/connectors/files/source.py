"""A files asset as a source: which files are there, and the rows of one.

Rules of this file:
  * the listing is the truth; it names files by their path relative to the project, or by their URL;
  * a file is read whole or rejected whole, with its line: nothing of a broken file ever becomes a row;
  * columns named in the path come from the path, typed as declared, and are required;
  * with a marker or a manifest only files that are marked exist (marking.py).

Memory: a file is held whole while it is read, about three times its size; land large data in several files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from tidemill.connectors.files import csv, json, parquet
from tidemill.connectors.files.columns import arrow_type, from_text
from tidemill.connectors.files.content import content_hash, rejected, unpacked
from tidemill.connectors.files.drift import added
from tidemill.connectors.files.identity import identified
from tidemill.connectors.files.marking import is_marked, listed
from tidemill.connectors.files.pattern import Pattern
from tidemill.connectors.files.ranges import check_ranges
from tidemill.core.errors import DefinitionError, OperatorError
from tidemill.core.model import Asset, Column
from tidemill.core.ports import FileContent, SourceFile
from tidemill.core.schema import Policy, policy_of

__all__ = ["FilesSource"]


class FilesSource:
    """Files of one asset, on any file system fsspec knows. `root` is the project's folder."""

    def __init__(self, asset: Asset, root: str | Path) -> None:
        self.asset = asset
        self._root = Path(root).resolve()
        self._is_remote = "://" in asset.path
        self._files, self._base = _opened(asset, self._root)
        self._pattern = Pattern.of(asset.path if not self._is_remote else self._base)

    def list(self) -> Iterator[SourceFile]:
        """All files that are there now and belong; with a marker, those that are marked."""
        found = dict(self._found())
        for path in self._marked(found):
            info, partition = found[path], self._pattern.match(path)
            if partition is not None:
                yield SourceFile(path, int(info.get("size") or 0), _stamp(info), partition)

    def read(self, file: SourceFile) -> FileContent:
        """The rows of a file, with `_rid` and `_parent`, and the hash of its content.

        Where files may add columns (`schema = "evolve"`) those of this file count for the files after it.
        """
        raw = self._raw(file)
        if self.asset.format == "binary":
            return FileContent(pa.table({}), content_hash(raw))
        if not self.asset.columns:
            self.infer(file)  # no file has told the columns, so neither does this one: it says why
        data = unpacked(raw, file.path, self.asset.options)
        asset = self.asset
        if policy_of(asset) is Policy.EVOLVE:
            names, infer = self._names(data, file), partial(self._inferred, data, file, takes_empty=False)
            new = added(names, infer, asset.columns, file.partition, file.path)
            asset = replace(asset, columns=asset.columns + new)
        rows, left_out = self._rows(asset, file, data)
        self.asset = asset
        return FileContent(identified(rows, file.path), content_hash(raw), asset.columns, left_out)

    def infer(self, file: SourceFile) -> tuple[Column, ...]:
        """The columns that this file tells, with those of its path: for an asset that declares none."""
        inside = self._inferred(unpacked(self._raw(file), file.path, self.asset.options), file, takes_empty=True)
        known = {column.name for column in inside}
        return inside + tuple(Column(name, "varchar", True) for name in self._pattern.names if name not in known)

    def _names(self, data: bytes, file: SourceFile) -> Sequence[str]:
        if self.asset.format == "csv":
            return csv.names(data, file.path, self.asset.options)
        if self.asset.format == "parquet":
            return [column.name for column in parquet.infer(data, file.path)]
        return json.names(data, file.path, self.asset.options, lines=self.asset.format == "ndjson")

    def _inferred(self, data: bytes, file: SourceFile, *, takes_empty: bool) -> tuple[Column, ...]:
        options, path = self.asset.options, file.path
        if self.asset.format == "csv":
            return csv.infer(data, path, options, takes_empty=takes_empty)
        if self.asset.format == "parquet":
            return parquet.infer(data, path)
        return json.infer(data, path, options, lines=self.asset.format == "ndjson", takes_empty=takes_empty)

    def _found(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every file below the pattern's prefix, hidden ones too (a marker may be one)."""
        start = self._base if self._is_remote else str(self._root / self._pattern.prefix)
        prefix = start if not self._is_remote else self._pattern.prefix
        self._files.invalidate_cache()
        try:
            found = self._files.find(prefix, detail=True)
            if not found and self._is_remote:
                self._check_bucket()
        except FileNotFoundError:
            self._check_bucket()
            return
        except OperatorError:
            raise
        except Exception as error:
            raise self._unlisted(str(error) or type(error).__name__) from error
        for name, info in found.items():
            yield self._relative(name), info

    def _check_bucket(self) -> None:
        """Raise OperatorError where the bucket itself is not there: an empty listing would hide a wrong name for ever."""
        bucket = self._base.partition("/")[0] if self._is_remote else ""
        if bucket and not self._files.exists(bucket):
            raise self._unlisted(f"there is no bucket {bucket}")

    def _unlisted(self, reason: str) -> OperatorError:
        message = f"asset {self.asset.name}: {self.asset.path} cannot be listed: {reason}"
        mend = "check the name and that it can be reached"
        if self.asset.path.startswith("s3"):
            mend = (
                "check the bucket's name and region, and the credentials in the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL for a store that is not Amazon's)"
            )
        return OperatorError(message, place=str(self.asset.place), mend=mend)

    def _relative(self, name: str) -> str:
        if self._is_remote:
            return name
        path = Path(name)
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else path.as_posix()

    def _marked(self, found: Mapping[str, object]) -> Iterator[str]:
        """The files that are complete, by their marker or their manifest; all of them where the asset names neither."""
        marker, manifest = self.asset.marker, str(self.asset.options.get("manifest", ""))
        if manifest:
            complete = listed(found, manifest, self._text)
            yield from (path for path in found if path in complete)
        else:
            yield from (path for path in found if not marker or is_marked(path, found, marker))

    def _text(self, path: str) -> str:
        """The text of a manifest; one that was taken away meanwhile lists nothing."""
        try:
            return self._raw(SourceFile(path, 0, "")).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _raw(self, file: SourceFile) -> bytes:
        where = file.path if self._is_remote else str(self._root / file.path)
        data: bytes = self._files.cat_file(where)
        return data

    def _rows(self, asset: Asset, file: SourceFile, data: bytes) -> tuple[pa.Table, tuple[str, ...]]:
        inside = [column for column in asset.columns if column.name not in file.partition]
        options, policy = asset.options, policy_of(asset)
        if asset.format == "csv":
            table, left_out = csv.read(data, file.path, inside, options, policy)
        elif asset.format == "parquet":
            table, left_out = parquet.read(data, file.path, inside, policy)
        else:
            is_lines = asset.format == "ndjson"
            table, left_out = json.read(data, file.path, inside, options, policy, lines=is_lines)
        check_ranges(table, file.path, inside, asset.ranges, partial(_line_of, data, asset))
        return self._with_partition(table, asset.columns, file), left_out

    def _with_partition(self, table: pa.Table, columns: Sequence[Column], file: SourceFile) -> pa.Table:
        """The rows with what the path tells, all columns in declared order."""
        for column in columns:
            if column.name not in file.partition:
                continue
            try:
                value = from_text(file.partition[column.name], column)
            except ValueError as error:
                raise rejected(
                    file.path, 0, f"in its path, {error}", "rename the file, or declare another type"
                ) from None
            table = table.append_column(column.name, pa.array([value] * table.num_rows, arrow_type(column.type)))
        return table.select([column.name for column in columns])


def _line_of(data: bytes, asset: Asset, index: int) -> int:
    """The line that a row begins on; 0 where the format has no lines."""
    if asset.format == "csv":
        return csv.line_of(data, index, asset.options)
    return json.line_of(data, index, asset.options) if asset.format == "ndjson" else 0


def _opened(asset: Asset, root: Path) -> tuple[Any, str]:
    """The file system of an asset's path, and the path as that file system spells it. Raises DefinitionError."""
    if "://" in asset.path:
        scheme = asset.path.partition("://")[0]
        try:
            files, base = fsspec.core.url_to_fs(asset.path)
        except ImportError:
            mend = (
                "pip install 'tidemill[s3]'" if scheme in ("s3", "s3a") else f"install what fsspec needs for {scheme}"
            )
            message = f"asset {asset.name}: {scheme}:// needs a package that is not installed"
            raise DefinitionError(message, place=str(asset.place), mend=mend) from None
        except ValueError as error:
            message = f"asset {asset.name}: {error}"
            raise DefinitionError(
                message, place=str(asset.place), mend="write a path or an address such as s3://bucket/folder/{date}.csv"
            ) from None
        return files, str(base)
    return fsspec.filesystem("file"), str(root)


def _stamp(info: Mapping[str, Any]) -> str:
    """What changes when a file is written again: a modification time, or the store's own tag."""
    for name in ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(name) is not None:
            return f"{info[name]}:{info.get('ino', '')}"
    return ""
