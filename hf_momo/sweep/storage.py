"""The storages of Optuna for a sweep: a journal or a database, safe for workers that start and die at any time."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from tenacity import retry, retry_if_exception_type, wait_random_exponential

from hf_momo.utils.errors import UsageError

# Seconds between two heartbeats, and from the last one until a worker counts as dead.
HEARTBEAT, PATIENCE = 10, 60
# Seconds for which a database may be away.
PATIENCE_FOR_DATABASE = 30.0
# Of a database that is away for a moment, or in which another worker is making the same tables.
DATABASE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
_JOURNAL_BEGIN = b'{"op_code":'

patiently = retry(
    retry=retry_if_exception_type(DATABASE_ERRORS),
    stop=lambda state: (state.seconds_since_start or 0) > PATIENCE_FOR_DATABASE,
    wait=wait_random_exponential(0.2, max=5),
    reraise=True,
)


def open_storage(location: str) -> BaseStorage:
    """Return the storage of a URL, or the journal of a path; an error does not show the password of the URL."""
    try:
        return _open_database(location) if "://" in location else _open_journal(Path(location))
    except (*DATABASE_ERRORS, ImportError, ValueError) as error:
        password = re.search(r"://[^/@]*?:(.+)@", location)
        text = str(error) or repr(error)
        for shown in (password[1], unquote(password[1])) if password else ():
            text = text.replace(shown, "***")
        raise UsageError(f"--storage: {text}") from error


class _JournalLock(JournalFileSymlinkLock):
    """A lock that the system releases when its process dies, and that repairs what a power cut left.

    Optuna's own locks outlive a killed process by half a minute, and a half-written line would make the journal
    unreadable as soon as another line followed it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path, self._file = path, FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        with self._file, self._path.open("rb+") as journal:
            end = journal.seek(0, os.SEEK_END)
            journal.seek(max(0, end - 2**20))
            tail = journal.read()
            journal.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
            self._file.acquire()
        return True

    def release(self) -> None:
        self._file.release()


def _open_journal(path: Path) -> BaseStorage:
    # Before anything else: the repair of a torn line must not cut somebody's file.
    if path.is_file():
        with path.open("rb") as file:
            if not _JOURNAL_BEGIN.startswith(file.read(len(_JOURNAL_BEGIN))):
                raise UsageError(f"{path} is not JSON of Optuna's journal; give the path of one, or of no file")
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))


@patiently
def _open_database(url: str) -> BaseStorage:
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60, "isolation_level": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = RDBStorage(url, engine_kwargs=options, heartbeat_interval=HEARTBEAT, grace_period=PATIENCE)
    if storage.engine.name == "sqlite":
        # Every transaction begins with the write lock: else two workers can both see that a trial is waiting.
        sqlalchemy.event.listen(
            storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return storage
