"""Watching folders: the operating system says that something moved, and the loop is told to look.

Rules of this file:
  * a notification is a hint and never a fact: lost or doubled ones change nothing, the listing is the truth;
  * one thread watches for all assets; a folder that does not exist yet is watched by its nearest existing parent;
  * assets on remote file systems are not watched: they are listed every so often by who owns the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from watchfiles import watch

from tidemill.connectors.files.pattern import Pattern
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Notifier

__all__ = ["FilesWatcher"]


class FilesWatcher:
    """Tells a notifier which files assets may have changed, from `start` until `stop`."""

    def __init__(self, assets: Iterable[Asset], root: str | Path, notifier: Notifier) -> None:
        self._root = Path(root).resolve()
        self._folders = {
            asset.name: self._root / _folder(asset)
            for asset in assets
            if asset.kind is AssetKind.FILES and "://" not in asset.path
        }
        self._notifier = notifier
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch; does nothing where there is nothing to watch, or twice."""
        if self._thread is None and self._folders:
            self._thread = threading.Thread(target=self._watch, name="tidemill files", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def affected(self, path: str) -> list[str]:
        """The assets that a change at this path may concern."""
        changed = Path(path)
        return [
            name
            for name, folder in self._folders.items()
            if changed.is_relative_to(folder) or folder.is_relative_to(changed)
        ]

    def _watch(self) -> None:
        """Watch, and begin anew when a folder that was missing appears: until then its parent is watched."""
        while not self._stop.is_set():
            watched = {_existing(folder) for folder in self._folders.values()}
            for changes in watch(*watched, stop_event=self._stop, step=50, rust_timeout=1_000, yield_on_timeout=True):
                for name in {name for _, path in changes for name in self.affected(path)}:
                    self._notifier.notify(name)
                if {_existing(folder) for folder in self._folders.values()} != watched:
                    break


def _folder(asset: Asset) -> str:
    """The folder that all files of an asset are below."""
    prefix = Pattern.of(asset.path).prefix
    return str(Path(prefix).parent) if prefix == asset.path else prefix


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
