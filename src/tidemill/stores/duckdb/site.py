"""One open database in this process: its sessions, its commit lock, its owner, and what is known of it in memory.

Rules of this file:
  * one site per database and process, however many store objects are over it: they share lock, epoch and knowledge;
  * knowledge in memory is what storage holds, swapped as a whole right after the commit that changed it;
  * after a commit that failed nobody knows what storage holds: the knowledge is read anew before it is used again.

Theory of operation. DuckDB lets one process open a file, so an owner in another process cannot exist, and everything
that must exclude each other lives in this object: `lock` is held by an exclusive transaction from begin to end and by
any other while it commits; `fence` is held for the moment of a commit, so that an epoch cannot be raised, nor a
snapshot be taken, between a commit and the knowledge of it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import ClassVar

from tidemill.core.errors import OperatorError
from tidemill.stores.duckdb.changes import IMAGES_MAX
from tidemill.stores.duckdb.database import Database, Session
from tidemill.stores.duckdb.layout import Known, create_layout, load, read_epoch

__all__ = ["Site"]

_IDLE_MAX = 4


class Site:
    """One open database in this process.

    Change sets of up to `images_max` images are consolidated, and a few rows are
    replaced, in Python (changes.py, few.py); 0 leaves all of it to SQL. `session_type` is what touches
    DuckDB; a test puts its own there to see what is run, or to let it fail.
    """

    _open: ClassVar[dict[str, Site]] = {}
    _opening: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: str, *, images_max: int = IMAGES_MAX, session_type: type[Session] = Session) -> None:
        self.path = path
        self.images_max = images_max
        self._session_type = session_type
        self.lock = threading.Lock()
        self.fence = threading.RLock()
        self.users = 0
        self.shapes: dict[object, tuple[str, ...]] = {}
        self._database = Database(path, session_type)
        self._idle: list[Session] = []
        self._known: Known | None = None
        try:
            self.writer = self._database.session()
            create_layout(self.writer)
            self.epoch = read_epoch(self.writer)
            self._known = load(self.writer)
        except BaseException:
            self._database.close()
            raise

    @classmethod
    def at(cls, path: str) -> Site:
        """The site of a path: the one that is open in this process, or a new one."""
        if path == ":memory:":
            return cls(path).join()
        resolved = str(Path(path).resolve())
        with cls._opening:
            site = cls._open.get(resolved)
            if site is None:
                site = cls._open[resolved] = cls(resolved)
            site.users += 1
            return site

    @property
    def known(self) -> Known:
        """What storage holds."""
        with self.fence:
            if self._known is None:
                self._known = self._recalled()
            return self._known

    def _recalled(self) -> Known:
        """Ask storage; where DuckDB has given the database up (a checkpoint met a full disk), attach it anew."""
        try:
            session = self._database.session()
            try:
                return load(session)
            finally:
                session.close()
        except OperatorError:
            if self.path == ":memory:":
                raise
        self._close_sessions()
        self._database.close()
        self._database = Database(self.path, self._session_type)
        self.writer = self._database.session()
        return load(self.writer)

    def _close_sessions(self) -> None:
        for session in (*self._idle, self.writer):
            session.close()
        self._idle.clear()

    def learn(self, known: Known | None) -> None:
        """Take over what a commit changed; None where something failed and storage must be asked."""
        with self.fence:
            self._known = known

    def commit(self, session: Session, known: Known) -> None:
        """Commit, and know what was committed. Called with the fence held."""
        try:
            session.commit()
        except BaseException:
            self.learn(None)
            raise
        self.learn(known)

    def take_session(self) -> Session:
        """A session for one transaction or query."""
        with self.fence:
            assert self.known is not None
            return self._idle.pop() if self._idle else self._database.session()

    def give_back(self, session: Session) -> None:
        """A session that nobody uses any more."""
        with self.fence:
            if len(self._idle) < _IDLE_MAX and self.users:
                self._idle.append(session)
                return
        session.close()

    def join(self) -> Site:
        """One more store object uses this site."""
        with Site._opening:
            self.users += 1
        return self

    def leave(self) -> None:
        """One store object fewer; the last one closes the database."""
        with Site._opening:
            self.users -= 1
            if self.users > 0:
                return
            Site._open.pop(self.path, None)
            self._close_sessions()
            self._database.close()
