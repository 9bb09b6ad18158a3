"""Artifacts: what comes back is what went in, or an error that says what was altered."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.artifacts import Corrupted, fetch_folder, keep_folder
from mlops.canonical import canonical_json, digest_bytes, digest_tree
from mlops.errors import InfrastructureError, UserError
from mlops.store import Store, open_store
from tests.core.conftest import Place, environment

LARGE = (8 << 20) + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "package"
    (made / "model" / "data").mkdir(parents=True)
    (made / "package.json").write_text('{"model": "flight-delay"}')
    (made / "model" / "MLmodel").write_text("flavors: {}")
    (made / "model" / "data" / "weights").write_bytes(bytes(range(256)) * 10)
    (made / "model" / "copy of weights").write_bytes(bytes(range(256)) * 10)
    (made / "model" / "empty").write_bytes(b"")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_what_went_in_comes_back(place: Place, folder: Path, tmp_path: Path) -> None:
    store = place.open()
    (folder / "large").write_bytes(b"0123456789abcdef" * (LARGE // 16) + b"!")
    digest = keep_folder(store, folder)
    assert digest == digest_tree(folder)
    back = fetch_folder(store, digest, tmp_path / "deep" / "down" / "back")
    assert back == tmp_path / "deep" / "down" / "back"
    assert contents(back) == contents(folder)
    assert [each.name for each in back.parent.iterdir()] == ["back"], "no draft stays behind"


def test_equal_files_are_stored_once_and_sent_once(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = keep_folder(store, folder)
    assert len(store.list("blobs")) == 4
    assert store.list("trees") == [f"trees/{digest}.json"]
    monkeypatch.setattr(Store, "upload", lambda *_: pytest.fail("sent again"))
    created: list[str] = []
    real = Store.create
    monkeypatch.setattr(
        Store, "create", lambda self, path, data: (created.append(path), real(self, path, data))[1]
    )
    assert keep_folder(store, folder) == digest
    assert created == [f"trees/{digest}.json"]


def test_an_empty_folder_comes_back_empty(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    back = fetch_folder(store, keep_folder(store, tmp_path / "empty"), tmp_path / "back")
    assert list(back.iterdir()) == []


def test_a_folder_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        keep_folder(store, tmp_path / "none")


def test_a_folder_that_is_there_already_is_not_fetched(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = keep_folder(store, folder)
    monkeypatch.setattr(Store, "get", lambda *_: pytest.fail("asked the store"))
    assert fetch_folder(store, digest, folder) == folder


def test_a_folder_that_is_not_what_it_should_be_is_replaced(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    digest = keep_folder(store, folder)
    back = fetch_folder(store, digest, tmp_path / "back")
    (back / "package.json").write_text("changed")
    (back / "extra").write_text("x")
    assert contents(fetch_folder(store, digest, back)) == contents(folder)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["back", "package", "store"]


def test_a_flipped_byte_is_found(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = keep_folder(store, folder)
    for path in store.list("blobs"):
        good = store.get(path) or b""
        bad = bytes([good[0] ^ 1, *good[1:]]) if good else b"x"
        store.put(path, bad)
        with pytest.raises(Corrupted, match="was altered") as corrupted:
            fetch_folder(store, digest, tmp_path / "back")
        assert corrupted.value.found == digest_bytes(bad)
        assert path.rpartition("/")[2] in corrupted.value.expected
        assert path in corrupted.value.where
        assert "--fresh" in corrupted.value.remedy
        assert not (tmp_path / "back").exists(), "whole or not at all"
        store.put(path, good)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["package", "store"]
    fetch_folder(store, digest, tmp_path / "back")


def test_a_missing_file_is_found(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = keep_folder(store, folder)
    store.delete(store.list("blobs")[0])
    with pytest.raises(Corrupted, match="the store lacks the content of"):
        fetch_folder(store, digest, tmp_path / "back")
    keep_folder(store, folder)
    fetch_folder(store, digest, tmp_path / "back")


def test_a_folder_that_was_never_kept(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Corrupted, match="not in the store"):
        fetch_folder(store, "0" * 64, tmp_path / "back")


def test_an_altered_list_of_files_is_found(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = keep_folder(store, folder)
    tree = json.loads(store.get(f"trees/{digest}.json") or b"")
    del tree["package.json"]
    store.put(f"trees/{digest}.json", canonical_json(tree))
    with pytest.raises(Corrupted, match="list of files was altered"):
        fetch_folder(store, digest, tmp_path / "back")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_a_list_that_leads_out_of_the_folder_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    store.create(f"blobs/{digest_bytes(b'x')}", b"x")
    tree = canonical_json({name: digest_bytes(b"x")})
    store.create(f"trees/{digest_bytes(tree)}.json", tree)
    with pytest.raises(Corrupted, match="leads out of the folder"):
        fetch_folder(store, digest_bytes(tree), tmp_path / "back")
    assert not (tmp_path / "outside").exists()


def test_another_process_may_be_first(
    store: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = keep_folder(store, folder)
    back = tmp_path / "back"

    def somebody_else(point: str) -> None:
        monkeypatch.undo()
        if point == "artifacts.before-rename":
            fetch_folder(store, digest, back)

    monkeypatch.setattr("mlops.artifacts.crossing", somebody_else)
    assert contents(fetch_folder(store, digest, back)) == contents(folder)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["back", "package", "store"]


def test_another_process_may_be_first_by_a_hair(
    store: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the look and the rename."""
    digest = keep_folder(store, folder)
    back = tmp_path / "back"
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        fetch_folder(store, digest, back)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert contents(fetch_folder(store, digest, back)) == contents(folder)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["back", "package", "store"]


def test_a_file_in_the_way_is_moved_aside(store: Store, folder: Path, tmp_path: Path) -> None:
    digest = keep_folder(store, folder)
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "other").write_text("x")
    fetch_folder(store, digest, tmp_path / "back")
    assert not (tmp_path / "back" / "other").exists()


@pytest.mark.parametrize("point", ["artifacts.before-tree", "artifacts.before-rename"])
def test_killed_at(store: Store, folder: Path, tmp_path: Path, point: str) -> None:
    code = (
        "import sys; from pathlib import Path; from mlops.store import open_store\n"
        "from mlops.artifacts import keep_folder, fetch_folder\n"
        "store = open_store(sys.argv[1]); digest = keep_folder(store, Path(sys.argv[2]))\n"
        "fetch_folder(store, digest, Path(sys.argv[3]))"
    )
    arguments = [sys.executable, "-c", code, store.url, str(folder), str(tmp_path / "back")]
    killed = subprocess.run(arguments, env=environment(MLOPS_KILL_AT=point), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "back").exists()
    digest = keep_folder(store, folder)
    assert contents(fetch_folder(store, digest, tmp_path / "back")) == contents(folder)


def test_a_full_disk_says_so_and_leaves_nothing(store: Store, folder: Path, small_disk: Path) -> None:
    (folder / "large").write_bytes(b"x" * (1 << 20))
    digest = keep_folder(store, folder)
    with pytest.raises(InfrastructureError, match="the disk is full"):
        fetch_folder(store, digest, small_disk / "back")
    assert list(small_disk.iterdir()) == []
    for number in range(100_000):
        try:
            (small_disk / f"{number}").touch()
        except OSError:
            break
    with pytest.raises(InfrastructureError, match="the disk is full"):
        fetch_folder(store, digest, small_disk / "back")


names = st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4}){0,2}", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=50), max_size=5))
@settings(max_examples=25, deadline=None)
def test_any_folder_comes_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    base = tmp_path_factory.mktemp("any")
    folder = base / "folder"
    folder.mkdir()
    for name, data in files.items():
        target = folder / "f" / name.replace("/", "_d/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    store = open_store(f"file://{base}/store")
    back = fetch_folder(store, keep_folder(store, folder), base / "back")
    assert contents(back) == contents(folder)


def test_a_link_to_a_file_outside_is_refused_and_one_within_is_followed(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "signing.pem"
    secret.write_text("secret")
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "a").write_text("a")
    (folder / "same").symlink_to("a")
    keep_folder(store, folder)
    (folder / "model.bin").symlink_to(secret)
    with pytest.raises(UserError, match=r"model\.bin is a link to a file outside"):
        keep_folder(store, folder)


def test_of_many_who_fetch_at_once_nobody_ever_sees_it_missing(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}").write_bytes(bytes([number]) * 2000)
    digest = keep_folder(store, folder)
    for turn in range(10):
        into = tmp_path / f"into-{turn}"
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(
                lambda _, into=into: digest_tree(fetch_folder(store, digest, into)), range(8)
            ):
                assert found == digest
        assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
