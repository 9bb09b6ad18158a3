"""A store of objects with the one primitive that the ledger is built on: create only if absent."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.errors import InfrastructureError
from mlops.store.translating import Unanswered, absent_place, translated

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CREATE_ATTEMPTS = 3
_CONFLICT_ATTEMPTS = 6
_READERS = 8
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Store:
    """Objects by path, the same for local files, S3, GCS and Azure.

    Paths are relative, segments divided by ``/``. Every method is bounded in time, repeats what may be
    repeated, and raises InfrastructureError (full disk, unreachable) or UserError (no permission, no such
    bucket) when it fails.
    """

    url: str
    backend: ObjectStore = field(repr=False)
    folder: Path | None = None
    """Where the objects are, for a store of local files; what is created there is flushed to the disk."""

    def create(self, path: str, data: bytes) -> bool:
        """Write the object only if none is there; True when we created it, False when it existed.

        Of many who create one path at once exactly one gets True, *except* when its answer was lost on the
        way: the write is then repeated, finds the object that landed, and says False. Whose object it is
        cannot be known here; who needs to know puts something unique in the content and reads it back (as the
        ledger does with the event's id).
        """
        for attempt in range(_CONFLICT_ATTEMPTS):
            if self._create(path, data):
                self._flush(path)
                return True
            if self.exists(path):
                return False
            # "Conflict" (HTTP 409) only says that another write was under way; it may have come to nothing.
            _pause(attempt)
        raise InfrastructureError(
            "the store says that an object exists and that it does not",
            expected="one of both",
            found=f"{_CONFLICT_ATTEMPTS} refusals to create an absent object",
            remedy="run the same command again; if it stays, check what stands between here and the store",
            where=self._address(path),
        )

    def put(self, path: str, data: bytes) -> None:
        """Write the object, replacing what is there; readers see the old or the new one, never a part."""
        self._replace(path, data)

    def get(self, path: str) -> bytes | None:
        """Return the object's content, None when there is none."""
        import obstore

        try:
            with self._at(path, "read"):
                return bytes(obstore.get(self.backend, path).bytes())
        except FileNotFoundError:
            return None

    def get_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the contents of several objects in the order asked for, read from remote stores at once."""
        if self.folder is not None or len(paths) < 2:
            return [self.get(path) for path in paths]
        with ThreadPoolExecutor(max_workers=min(_READERS, len(paths))) as readers:
            return list(readers.map(self.get, paths))

    def exists(self, path: str) -> bool:
        """Say whether there is an object at the path."""
        import obstore

        try:
            with self._at(path, "look up"):
                obstore.head(self.backend, path)
        except FileNotFoundError:
            return False
        return True

    def delete(self, path: str) -> None:
        """Remove the object; nothing happens when there is none."""
        import obstore

        try:
            with self._at(path, "delete"):
                obstore.delete(self.backend, path)
        except FileNotFoundError:
            return

    def upload(self, path: str, file: Path) -> None:
        """Write a file of any size as an object, in pieces, replacing what is there."""
        self._replace(path, file)

    def download(self, path: str, file: Path) -> bool:
        """Write the object into a file, in pieces; False when there is no object."""
        import obstore

        try:
            with self._at(path, "read"), file.open("wb") as stream:
                for piece in obstore.get(self.backend, path).stream(min_chunk_size=_PIECE_BYTES):
                    stream.write(piece)
        except FileNotFoundError:
            file.unlink(missing_ok=True)
            return False
        return True

    def folders(self, prefix: str) -> list[str]:
        """Return the full paths of the folders directly under ``prefix``, sorted, without their contents."""
        import obstore

        with self._at(prefix, "list"):
            found = obstore.list_with_delimiter(self.backend, prefix or None)
        return sorted(str(each).rstrip("/") for each in found["common_prefixes"])

    def list(self, prefix: str, after: str | None = None) -> list[str]:
        """Return the full paths under the folder ``prefix``, sorted; with ``after`` those behind it."""
        import obstore

        with self._at(prefix, "list"):
            pages = obstore.list(self.backend, prefix or None, offset=after, chunk_size=1000)
            return sorted(str(entry["path"]) for page in pages for entry in page)

    def _create(self, path: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        for attempt in range(_CREATE_ATTEMPTS):
            try:
                with translated(self.url, path, "create"):
                    obstore.put(self.backend, path, data, mode="create")
            except AlreadyExistsError:
                return False
            except FileNotFoundError as error:
                raise absent_place(self.url, path, error) from error
            except Unanswered:
                if attempt == _CREATE_ATTEMPTS - 1:
                    raise
                _pause(attempt)
            else:
                return True
        raise AssertionError("the loop above returns or raises")

    def _replace(self, path: str, content: bytes | Path) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        for attempt in range(_CONFLICT_ATTEMPTS):
            try:
                with self._at(path, "write"):
                    obstore.put(self.backend, path, content)
            except FileNotFoundError as error:
                raise absent_place(self.url, path, error) from error
            except AlreadyExistsError:
                # The library's word for HTTP 409: another write of this object was under way.
                _pause(attempt)
            else:
                self._flush(path)
                return
        raise Unanswered(
            "the store did not write",
            expected="to replace the object",
            found=f"{_CONFLICT_ATTEMPTS} times another write was under way",
            remedy="find out what else writes this object, then run the same command again",
            where=self._address(path),
        )

    def _flush(self, path: str) -> None:
        """Make a local object survive a power cut: the file, then the name of it."""
        if self.folder is None:
            return
        with self._at(path, "flush"):
            for place, flags in (
                (self.folder / path, os.O_RDONLY),
                ((self.folder / path).parent, os.O_RDONLY | os.O_DIRECTORY),
            ):
                descriptor = os.open(place, flags)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _address(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}"

    def _at(self, path: str, action: str) -> AbstractContextManager[None]:
        return translated(self.url, path, action)


def _pause(attempt: int) -> None:
    """Sleep a random time that grows: up to 0.1, 0.2, 0.4, then 0.5 seconds."""
    time.sleep(random.uniform(0.01, min(0.5, 0.1 * 2**attempt)))  # noqa: S311 - spreads writers, hides nothing
