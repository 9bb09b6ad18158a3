"""The contract of a store, on every backend; and what each failure looks like to a person."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlops.errors import InfrastructureError, UserError
from mlops.store import Store, open_store
from mlops.store.translating import translation
from tests.core import proxies
from tests.core.conftest import Place


def test_the_first_create_stays(place: Place) -> None:
    store = place.open()
    first = store.create("a/b.json", b"first")
    second = store.create("a/b.json", b"second")
    assert first or place.may_lose_answers
    assert not second
    assert store.get("a/b.json") == b"first"


def test_each_new_path_can_be_created(place: Place) -> None:
    store = place.open()
    for number in range(8):
        created = store.create(f"n/{number}", str(number).encode())
        assert created or place.may_lose_answers
        assert store.get(f"n/{number}") == str(number).encode()


def test_put_replaces(place: Place) -> None:
    store = place.open()
    store.put("x", b"one")
    store.put("x", b"two")
    assert store.get("x") == b"two"


def test_an_absent_object_is_none_and_does_not_exist(place: Place) -> None:
    store = place.open()
    assert store.get("nothing/here") is None
    assert not store.exists("nothing/here")
    store.put("nothing/there", b"")
    assert store.exists("nothing/there")
    assert store.get("nothing/there") == b""


def test_delete_removes_and_may_be_repeated(place: Place) -> None:
    store = place.open()
    store.put("x", b"one")
    store.delete("x")
    store.delete("x")
    assert store.get("x") is None
    assert store.create("x", b"again") or place.may_lose_answers


def test_list_is_sorted_recursive_by_folder_and_begins_after(place: Place) -> None:
    store = place.open()
    for path in ("f/0000000010", "f/0000000002", "f/0000000001", "f/sub/1", "f-other/1"):
        store.put(path, b"x")
    assert store.list("f") == ["f/0000000001", "f/0000000002", "f/0000000010", "f/sub/1"]
    assert store.list("f/") == store.list("f")
    assert store.list("f", after="f/0000000002") == ["f/0000000010", "f/sub/1"]
    assert store.list("f", after="f/sub/1") == []
    assert store.list("none") == []


def test_folders_are_those_directly_below(place: Place) -> None:
    store = place.open()
    for path in ("l/b/production/1", "l/a/staging/1", "l/a/production/1", "l/file"):
        store.put(path, b"x")
    assert store.folders("l") == ["l/a", "l/b"]
    assert store.folders("l/a") == ["l/a/production", "l/a/staging"]
    assert store.folders("none") == []


def test_get_all_keeps_the_order(place: Place) -> None:
    store = place.open()
    for number in range(12):
        store.put(f"g/{number}", str(number).encode())
    asked = [f"g/{number}" for number in (11, 3, 99, 0, 7)]
    assert store.get_all(asked) == [b"11", b"3", None, b"0", b"7"]
    assert store.get_all([]) == []


def test_files_go_up_and_come_down_in_pieces(place: Place, tmp_path: Path) -> None:
    store = place.open()
    content = os.urandom(9 << 20)
    (tmp_path / "up").write_bytes(content)
    store.upload("large", tmp_path / "up")
    assert store.download("large", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content
    assert not store.download("absent", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_opening_leaves_nothing_behind(place: Place) -> None:
    assert place.open().list("") == []


def test_a_store_that_allows_a_second_create_is_refused(s3_port: int, s3: Callable[[str], str]) -> None:
    with proxies.running(proxies.DropsTheCondition(s3_port)) as proxy:
        url = s3(proxy.url)
        with pytest.raises(UserError, match="two writers") as refused:
            open_store(url)
        assert "If-None-Match" in refused.value.expected
        with pytest.raises(UserError, match="two writers"):
            open_store(url)  # a refusal is not remembered as a proof


def test_the_proof_is_made_once_per_url(s3_port: int, s3: Callable[[str], str]) -> None:
    with proxies.running(proxies.Proxy(s3_port)) as proxy:
        url = s3(proxy.url)
        puts: list[int] = []
        proxy.put = lambda handler, body, headers: (  # type: ignore[method-assign]
            puts.append(1),
            proxies.Proxy.put(proxy, handler, body, headers),
        )[1]
        open_store(url)
        assert len(puts) == 2
        open_store(url)
        assert len(puts) == 2


def test_a_conflict_without_end_is_an_error_not_a_claim(s3_port: int, s3: Callable[[str], str]) -> None:
    """409 may mean that another write came to nothing: create repeats, and in the end says that it could not."""
    with proxies.running(proxies.AnswersConflict(s3_port, every=0)) as proxy:
        store = open_store(s3(proxy.url))
        proxy.every = 1
        with pytest.raises(InfrastructureError, match="exists and that it does not"):
            store.create("x", b"x")
        assert proxy.faults >= 6
        with pytest.raises(InfrastructureError, match="did not write"):
            store.put("x", b"x")
        proxy.every = 2
        assert store.create("x", b"x")
        store.put("x", b"y")
        assert store.get("x") == b"y"


def test_a_failing_server_is_asked_again_and_then_reported(s3_port: int, s3: Callable[[str], str]) -> None:
    with proxies.running(proxies.Fails(s3_port, every=0)) as proxy:
        store = open_store(s3(proxy.url))
        proxy.every = 2
        assert store.create("x", b"x")
        proxy.every = 1
        with pytest.raises(InfrastructureError, match="did not create") as failed:
            store.create("y", b"y")
        assert "network" in failed.value.remedy
        proxy.every = 0
        assert store.create("y", b"y")


def test_names_under_the_url_prefix_are_not_seen_elsewhere(s3_port: int, s3: Callable[[str], str]) -> None:
    url = s3(f"http://127.0.0.1:{s3_port}")
    open_store(url).put("x", b"x")
    assert open_store(url.removesuffix("/mlops")).list("") == ["mlops/x"]


@pytest.mark.parametrize(
    "url",
    ["", "bad://x", "/srv/mlops", "file://relative/path", "file:///", "http://x/y", "memory:///", "srv"],
)
def test_a_url_that_is_none_of_ours_is_the_users_to_correct(url: str) -> None:
    with pytest.raises(UserError, match="not the URL of a store") as refused:
        open_store(url)
    assert "s3://" in refused.value.expected
    assert refused.value.remedy


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(UserError, match="not the URL of a store"):
        open_store(f"file://{tmp_path}/store")
    with pytest.raises(UserError):
        open_store(f"file://{tmp_path}/store/below")


def test_spaces_in_a_file_url(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/my%20store")
    store.put("x", b"x")
    assert (tmp_path / "my store" / "x").read_bytes() == b"x"


def test_missing_settings_are_the_users_to_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AZURE_"):
            monkeypatch.delenv(name)
    with pytest.raises(UserError, match="settings cannot be used") as refused:
        open_store("az://container/prefix")
    assert "AZURE_" in refused.value.remedy


def test_a_bucket_that_does_not_exist(s3_port: int, s3: Callable[[str], str]) -> None:
    s3(f"http://127.0.0.1:{s3_port}")
    with pytest.raises(UserError, match="does not exist") as refused:
        open_store("s3://no-such-bucket-here/x")
    assert "s3://no-such-bucket-here" in refused.value.where


def test_a_bucket_that_was_removed_meanwhile(s3_port: int, s3: Callable[[str], str]) -> None:
    import boto3

    url = s3(f"http://127.0.0.1:{s3_port}")
    store = open_store(url)
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3_port}", region_name="us-east-1")
    client.delete_bucket(Bucket=url.split("/")[2])
    client.close()
    for act in (store.create, store.put):
        with pytest.raises(UserError, match="does not exist"):
            act("x", b"x")


def test_nobody_listens(s3: Callable[[str], str]) -> None:
    url = s3("http://127.0.0.1:1")
    with pytest.raises(InfrastructureError, match="did not create") as failed:
        open_store(url)
    assert "Debug source" not in failed.value.found
    assert "\n" not in failed.value.found


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Root may do all: become nobody for a while (all threads of the process do)."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission_is_the_users_to_correct(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = open_store(f"file://{folder}")
    store.put("kept", b"x")
    folder.chmod(0o500)
    with _as_nobody():
        for act in (
            lambda: store.create("x", b"x"),
            lambda: store.put("x", b"x"),
            lambda: open_store(f"file://{folder}/below"),
        ):
            with pytest.raises(UserError, match="not permitted to"):
                act()


def test_a_full_disk_says_so_and_leaves_nothing_half_written(small_disk: Path) -> None:
    store = open_store(f"file://{small_disk}/store")
    for act in (store.create, store.put):
        with pytest.raises(InfrastructureError, match="the disk is full: could not") as full:
            act("large", b"x" * (1 << 20))
        assert "free some space" in full.value.remedy
        assert store.list("") == []
    assert store.create("large", b"small")


def test_a_full_disk_here_says_so_too(store: Store, small_disk: Path) -> None:
    store.put("large", b"x" * (1 << 20))
    with pytest.raises(InfrastructureError, match="the disk is full: could not read"):
        store.download("large", small_disk / "file")
    (small_disk / "file").unlink()


def test_a_full_disk_when_opening(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        filler.writelines([b"x" * 4096] * 64)
    with pytest.raises(InfrastructureError, match="full"):
        open_store(f"file://{small_disk}/store")


def test_created_files_are_flushed_to_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(True), real(descriptor))[1])
    store.create("a/b", b"x")
    assert len(flushed) == 2, "the file, and the folder that holds its name"
    store.create("a/b", b"y")
    assert len(flushed) == 2


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("LocalFileSystem error: No space left on device (os error 28)", InfrastructureError, "full"),
        ("Disk quota exceeded (os error 122)", InfrastructureError, "full"),
        ("Permission denied (os error 13)", UserError, "not permitted"),
        ("Operation not permitted (os error 1)", UserError, "not permitted"),
        ("Read-only file system (os error 30)", UserError, "not permitted"),
        ("something else (os error 104)", InfrastructureError, "did not write"),
    ],
)
def test_what_the_library_says_decides_the_kind(text: str, kind: type[Exception], words: str) -> None:
    error = translation(OSError(f"{text}\n\nDebug source: ..."), "file:///x/", "a/b", "write")
    assert type(error).__mro__.index(kind) >= 0
    assert words in str(error)
    assert error.where == "file:///x/a/b"
    assert error.found == text


def test_forbidden_and_unknown_credentials_are_the_users_to_correct() -> None:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    for refusal in (PermissionDeniedError("403"), UnauthenticatedError("401"), PermissionError("no")):
        assert isinstance(translation(refusal, "s3://b", "x", "read"), UserError)
