"""Opens a store by its URL and proves that it keeps the promise that the ledger rests on."""

from __future__ import annotations

import os
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlops.errors import MlopsError, UserError
from mlops.store.objects import Store
from mlops.store.translating import translation

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES = ("file", "s3", "gs", "az")

_proven: set[str] = set()


def open_store(url: str) -> Store:
    """Open the store at the URL; refuses one that would let two writers both create the same object.

    ``file:///srv/mlops``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``;
    region, endpoint and credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*). The proof costs
    four requests, once per process and URL.

    Raises:
        UserError: an unknown scheme, a bucket that does not exist, no permission, or a store without
        create-only writes.
        InfrastructureError: the store cannot be reached, or its disk is full.
    """
    store = _local(url) if urlsplit(url).scheme == "file" else _remote(url)
    # One URL can mean another store when the endpoint in the environment changes.
    key = f"{url} {os.environ.get('AWS_ENDPOINT_URL', '')}"
    if key not in _proven:
        _prove(store)
        _proven.add(key)
    return store


def _local(url: str) -> Store:
    from obstore.store import LocalStore

    parts = urlsplit(url)
    folder = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not folder.is_absolute() or folder == Path("/"):
        raise _bad_url(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Store(url=url, backend=LocalStore(prefix=folder), folder=folder)
    except (OSError, ValueError) as error:
        raise _unopened(error, url) from error


def _remote(url: str) -> Store:
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    if urlsplit(url).scheme not in SCHEMES:
        raise _bad_url(url)
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=30),
        "timeout": timedelta(minutes=5),
    }
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true":
        client["allow_http"] = True
    retry: RetryConfig = {
        "max_retries": 3,
        "retry_timeout": timedelta(seconds=30),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }
    try:
        return Store(url=url, backend=from_url(url, client_options=client, retry_config=retry))
    except (BaseError, ValueError) as error:
        raise UserError(
            "the store's URL or its settings cannot be used",
            expected="a bucket or container in the URL; region, account and credentials in the environment",
            found=str(error).partition("\n")[0],
            remedy="correct the profile's store URL or the environment (AWS_*, GOOGLE_*, AZURE_*)",
            where=url,
        ) from error


def _prove(store: Store) -> None:
    """Create one object twice; the second time must be refused."""
    path = f"probes/{uuid.uuid4().hex}"
    try:
        store.create(path, b"first")
        refused = not store.create(path, b"second")
    finally:
        _remove(store, path)
    if not refused:
        raise UserError(
            "this store lets two writers create the same object, so it cannot hold a ledger",
            expected="a refusal of the second create (conditional writes, If-None-Match)",
            found="both were accepted",
            remedy="use a store with conditional writes, and no proxy in between that drops the header",
            where=store.url,
        )


def _remove(store: Store, path: str) -> None:
    try:
        store.delete(path)
    except MlopsError:
        # The proof's own answer matters; a probe left behind takes six bytes.
        return


def _bad_url(url: str) -> UserError:
    return UserError(
        f"'{url}' is not the URL of a store",
        expected=f"one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}; a folder as file:///absolute/path",
        found=url,
        remedy="correct the profile's store URL",
    )


def _unopened(error: Exception, url: str) -> MlopsError:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return _bad_url(url)
    return translation(error, url, "", "open")
