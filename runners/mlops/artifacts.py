"""Keeps folders in the store by their content: equal files are stored once, what comes back is what went in.

``blobs/<sha256>`` holds a file, ``trees/<digest>.json`` the canonical JSON of relative name -> file digest;
the tree's own name is the SHA-256 of its content, which is also :func:`mlops.canonical.digest_tree` of the
folder. File modes and empty folders are not kept.
"""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from mlops.canonical import canonical_json, digest_bytes, digest_file, digest_tree
from mlops.errors import InfrastructureError, UserError
from mlops.store import Store
from mlops.store.translating import translated
from mlops.telemetry import crossing

_WHOLE_BYTES = 8 << 20
"""Up to this size a file is written create-only in one request, above it in pieces."""
_REPLACE_ATTEMPTS = 10
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


class Corrupted(InfrastructureError):  # noqa: N818 - says the fact
    """What the store holds is not what was put there."""


def keep_folder(store: Store, folder: Path) -> str:
    """Store every file of the folder and return its digest; what is there already is not sent again."""
    if not folder.is_dir():
        raise UserError(
            "there is no such folder to keep",
            expected="a folder",
            found=str(folder),
            remedy="run the stage that makes it",
            where=str(folder),
        )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    _refuse_strangers(folder, files)
    entries = {path.relative_to(folder).as_posix(): _keep_file(store, path) for path in files}
    tree = canonical_json(entries)
    digest = digest_bytes(tree)
    # The tree comes last: who finds it finds all its files.
    crossing("artifacts.before-tree")
    store.create(_tree_path(digest), tree)
    return digest


def fetch_folder(store: Store, digest: str, into: Path) -> Path:
    """Write the folder with this digest to ``into`` and return that path; every file is checked.

    A folder that is there already is kept if it has this very digest and replaced if not. The folder appears
    whole or not at all.

    Raises:
        Corrupted: the store lacks a file of it, or holds another content than the digest names.
    """
    if into.is_dir() and _is(into, digest):
        return into
    entries = _tree(store, digest)
    draft = into.with_name(f".{into.name}.{uuid.uuid4().hex}")
    try:
        with translated(str(into), "", "write the folder"):
            draft.mkdir(parents=True)
            for name, blob in entries.items():
                _fetch_file(store, blob, draft / name)
            crossing("artifacts.before-rename")
            _replace(draft, into, digest)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return into


def _refuse_strangers(folder: Path, files: Sequence[Path]) -> None:
    """Refuse links to files outside: model code writes these folders, and must not publish what it can read."""
    inside = folder.resolve()
    for path in files:
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UserError(
                f"{path.name} is a link to a file outside of its folder",
                expected="files, or links within the folder",
                found=str(path.resolve()),
                remedy="write the file itself there instead of a link",
                where=str(path),
            )


def _keep_file(store: Store, path: Path) -> str:
    if path.stat().st_size <= _WHOLE_BYTES:
        data = path.read_bytes()
        digest = digest_bytes(data)
        if not store.exists(_blob_path(digest)):
            store.create(_blob_path(digest), data)
        return digest
    digest = digest_file(path)
    if not store.exists(_blob_path(digest)):
        # Two who write it at once write the same bytes.
        store.upload(_blob_path(digest), path)
    return digest


def _tree(store: Store, digest: str) -> Mapping[str, str]:
    path = _tree_path(digest)
    content = store.get(path)
    if content is None:
        raise _corrupted(store, path, "the folder is not in the store", found="nothing")
    if digest_bytes(content) != digest:
        raise _corrupted(store, path, "the folder's list of files was altered", found=digest_bytes(content))
    entries: dict[str, str] = json.loads(content)
    for name in entries:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise _corrupted(store, path, "the folder's list of files leads out of the folder", found=name)
    return entries


def _fetch_file(store: Store, digest: str, file: Path) -> None:
    path = _blob_path(digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not store.download(path, file):
        raise _corrupted(store, path, f"the store lacks the content of {file.name}", found="nothing")
    found = digest_file(file)
    if found != digest:
        raise _corrupted(store, path, f"the content of {file.name} in the store was altered", found=found)


def _replace(draft: Path, into: Path, digest: str) -> None:
    """Give the draft its name; what stands there and is something else is moved aside and removed.

    A good folder that another process put there meanwhile stays: somebody may be reading it already.
    """
    for _ in range(_REPLACE_ATTEMPTS):
        try:
            draft.rename(into)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        else:
            return
        if into.is_dir() and _is(into, digest):
            return
        aside = into.with_name(f".{into.name}.{uuid.uuid4().hex}.old")
        with suppress(FileNotFoundError):  # another process has moved it
            into.rename(aside)
            _discard(aside)
    raise InfrastructureError(
        f"{into.name} changes faster than it can be replaced",
        remedy="see what else writes there, and run again",
        where=str(into),
    )


def _is(folder: Path, digest: str) -> bool:
    try:
        return digest_tree(folder) == digest
    except FileNotFoundError:
        return False  # it is being moved away while we look


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _corrupted(store: Store, path: str, headline: str, *, found: str) -> Corrupted:
    return Corrupted(
        headline,
        expected=f"content with the SHA-256 {PurePosixPath(path).stem}",
        found=found,
        remedy="delete this object and run the stage that made it again with --fresh",
        where=f"{store.url.rstrip('/')}/{path}",
    )


def _blob_path(digest: str) -> str:
    return f"blobs/{digest}"


def _tree_path(digest: str) -> str:
    return f"trees/{digest}.json"
