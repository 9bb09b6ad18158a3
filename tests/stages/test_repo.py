"""Which files make a model repo, and what a copy of it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.contract.loading import load_contract
from mlops.errors import UserError
from mlops.stages.repo import Repo, data_digest
from tests.stages.lab import commit, make_repo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "repo")


def test_in_git_the_files_are_those_that_git_tracks_or_would_track(folder: Path) -> None:
    commit(folder)
    (folder / "new.py").write_text("")
    (folder / "ignored.py").write_text("")
    (folder / ".gitignore").write_text("data/\nignored.py\n")
    (folder / "README.md").unlink()
    (folder / ".mlops").mkdir()
    (folder / ".mlops" / "run.json").write_text("{}")
    assert Repo(folder).files() == (".gitignore", "mlops.yaml", "new.py", "requirements.txt", "train.py")


def test_a_folder_inside_another_repo_has_its_own_files_only(folder: Path) -> None:
    outer = folder.parent
    (outer / "elsewhere.py").write_text("")
    commit(outer)
    assert set(Repo(folder).files()) == {"README.md", "mlops.yaml", "requirements.txt", "train.py"}


def test_a_folder_that_the_repo_around_it_ignores_is_walked(folder: Path) -> None:
    (folder.parent / "other.py").write_text("")
    commit(folder.parent)
    (folder.parent / ".gitignore").write_text("*\n")
    Repo(folder.parent)._git("rm", "-r", "-q", "--cached", ".")
    assert "train.py" in Repo(folder).files()


def test_outside_git_environments_and_caches_are_left_out(folder: Path) -> None:
    for name in ("venv/pyvenv.cfg", "venv/lib.py", ".mlops/run.json", "__pycache__/a.pyc", "src/a.py"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text("")
    found = Repo(folder).files()
    assert "src/a.py" in found
    assert not any(name.startswith(("venv", ".mlops", "__pycache__")) for name in found)
    assert Repo(folder).commit() == ""
    assert not Repo(folder).dirty()


def test_the_digest_follows_the_code_and_nothing_else(folder: Path) -> None:
    contract = load_contract(folder)
    before = Repo(folder).digest(contract)
    (folder / "README.md").write_text("# Other words\n")
    (folder / "mlops.yaml").write_text((folder / "mlops.yaml").read_text() + "rollout: {strategy: rolling}\n")
    (folder / "data" / "holdout.parquet").write_bytes(b"other rows")
    assert Repo(folder).digest(contract) == before
    (folder / "train.py").write_text("# other code\n")
    assert Repo(folder).digest(contract) != before


def test_a_copy_has_the_code_and_none_of_the_data(folder: Path, tmp_path: Path) -> None:
    (folder / "shortcut.parquet").symlink_to(folder / "data" / "holdout.parquet")
    (folder / "relative.parquet").symlink_to("data/holdout.parquet")
    (folder / "nowhere").symlink_to("gone")
    (folder / "linked.py").symlink_to("train.py")
    Repo(folder).copy(tmp_path / "copy", load_contract(folder))
    copied = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*")}
    assert copied == {"README.md", "linked.py", "mlops.yaml", "requirements.txt", "train.py"}
    assert (tmp_path / "copy" / "linked.py").read_text() == (folder / "train.py").read_text()


def test_a_submodule_is_copied_without_its_history(folder: Path, tmp_path: Path) -> None:
    inner = folder / "library"
    inner.mkdir()
    (inner / "code.py").write_text("")
    (inner / "mlops.yaml").write_text("")
    commit(inner)
    commit(folder)
    Repo(folder).copy(tmp_path / "copy", load_contract(folder))
    assert (tmp_path / "copy" / "library" / "code.py").is_file()
    assert not (tmp_path / "copy" / "library" / ".git").exists()


def test_commit_and_changes_are_told(folder: Path) -> None:
    first = commit(folder)
    assert Repo(folder).commit() == first
    assert not Repo(folder).dirty()
    (folder / "train.py").write_text("# changed\n")
    assert Repo(folder).dirty()


def test_without_git_on_the_machine_the_folder_is_walked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(folder)
    monkeypatch.setenv("PATH", str(folder))
    assert "train.py" in Repo(folder).files()


def test_the_rows_digest_knows_how_the_holdout_is_cut(folder: Path) -> None:
    given = load_contract(folder)
    text = (folder / "mlops.yaml").read_text().replace("  holdout: data/holdout.parquet\n", "")
    (folder / "mlops.yaml").write_text(text)
    cut = load_contract(folder)
    (folder / "mlops.yaml").write_text(text.replace("  id: row", "  id: row\n  holdout_fraction: 0.3"))
    digests = {data_digest(contract, folder) for contract in (given, cut, load_contract(folder))}
    assert len(digests) == 3


def test_rows_that_are_not_there_are_the_users_to_bring(folder: Path) -> None:
    (folder / "data" / "train.parquet").unlink()
    with pytest.raises(UserError, match=r"train\.parquet"):
        data_digest(load_contract(folder), folder)
