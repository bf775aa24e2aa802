"""The contents of files: written under a temporary name, synced, renamed, then noted.

A file lies under its random id, whatever its client calls it. What a killed server has left half
written, or written and not noted, is deleted when the next one starts.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lorita.errors import OutputError
from lorita.jobs.database import Database
from lorita.jobs.records import StoredFile, new_id
from lorita.storage.disk import sync
from lorita.storage.private import PRIVATE_FILE, PRIVATE_FOLDER

MOST_BYTES = 512 * 2**20
"""Of one file, as OpenAI allows for training."""
_PART = ".part"
_NAME = re.compile(r"file-[A-Za-z0-9]{24}")


class Upload:
    """A file that is being written. ``keep`` or ``drop`` it in the end."""

    def __init__(self, store: FileStore) -> None:
        self._store, self.id = store, new_id("file-")
        self._path = store.folder / (self.id + _PART)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self._path, flags | getattr(os, "O_BINARY", 0), PRIVATE_FILE)
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """Append to the file; ``OSError`` where the disk is full."""
        self._file.write(data)
        self.bytes += len(data)

    def flush(self) -> None:
        """Hand all that was written to the system."""
        self._file.flush()

    def keep(self, filename: str, purpose: str) -> StoredFile:
        """The file is whole: from now on it exists."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(self._store.folder / self.id)
        sync(self._store.folder)
        file = StoredFile(self.id, self.bytes, int(time.time()), filename, purpose)
        self._store.database.add_file(file)
        return file

    def drop(self) -> None:
        """Delete what was written, unless it was kept."""
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


class FileStore:
    """The files of a data folder, whose only writer this process is."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        if folder.is_symlink():
            raise OutputError(f"{folder}: a symbolic link, so nothing is written there")
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        self._clean()

    def _clean(self) -> None:
        """Make what is on the disk and what is noted the same."""
        noted = {file.id for file in self.database.files()}
        for path in self.folder.iterdir():
            name = path.name.removesuffix(_PART)
            if _NAME.fullmatch(name) and path.name not in noted:
                path.unlink()
        for file in noted:
            if not self.path(file).is_file():
                self.database.remove_file(file)

    def begin(self) -> Upload:
        """A new file, to be written."""
        return Upload(self)

    def path(self, file: str) -> Path:
        """Where the content of a file lies."""
        if not _NAME.fullmatch(file):
            raise ValueError("not an id of a file")
        return self.folder / file

    def write(self, content: bytes, filename: str, purpose: str) -> StoredFile:
        """A new file of the server itself."""
        upload = self.begin()
        try:
            upload.write(content)
            return upload.keep(filename, purpose)
        finally:
            upload.drop()

    def remove(self, file: str) -> bool:
        """Delete a file, which is forgotten first; whether there was one."""
        found = self.database.remove_file(file)
        if found:
            self.path(file).unlink(missing_ok=True)
        return found
