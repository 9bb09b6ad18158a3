"""Environments by uv: what is resolved, what is refused, and installs that are raced or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.environments import requirements
from mlops.environments.port import Command, Installed, Locked
from mlops.environments.uv import UvEnvironments
from mlops.environments.variables import minimal
from mlops.errors import InfrastructureError, Interrupted, UserError

PINNED_SIX = (
    "six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    " --hash=sha256:1e61c37477a1626458e36f7b1d82aa5c9b094fa4802892072e49de9c60c4c926\n"
)
INSTALL = """
import sys
from pathlib import Path
from mlops.environments.port import Locked
from mlops.environments.uv import UvEnvironments
print(UvEnvironments(Path(sys.argv[1])).install(Locked("3.11", sys.argv[2], "test")).python)
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """An empty model repo."""
    folder = tmp_path / "repo"
    folder.mkdir()
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> UvEnvironments:
    """Environments below an empty home."""
    return UvEnvironments(tmp_path / "home")


class TestResolve:
    def test_a_lock_with_hashes_is_taken_as_it_is(
        self, fresh: UvEnvironments, repo: Path, tmp_path: Path
    ) -> None:
        (repo / "requirements.lock").write_text("# a comment\n" + PINNED_SIX.replace(" --", " \\\n    --"))
        (repo / "requirements.txt").write_text("nothing-that-exists")
        locked = fresh.resolve(repo, "3.11", None)
        assert locked == Locked("3.11", PINNED_SIX, "requirements.lock")
        assert not (tmp_path / "home").exists()  # nobody was asked

    def test_what_is_not_locked_is_resolved_once_with_hashes(
        self, fresh: UvEnvironments, repo: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (repo / "more.txt").write_text("six==1.16.0\n")
        (repo / "requirements.txt").write_text("-r more.txt\n")
        locked = fresh.resolve(repo, "3.11", None)
        assert requirements.is_locked(locked.requirements)
        assert requirements.names(locked.requirements) == {"six"}
        monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:1/simple")  # from here on there is no index
        monkeypatch.setenv("UV_NO_CACHE", "1")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        assert fresh.resolve(repo, "3.11", None) == locked
        # Negative control: what an included file says is part of the content.
        (repo / "more.txt").write_text("six==1.15.0\n")
        with pytest.raises(InfrastructureError, match=r"Could not resolve requirements\.txt") as failure:
            fresh.resolve(repo, "3.11", None)
        assert "index" in failure.value.remedy

    def test_a_project_file_and_a_named_lock(self, fresh: UvEnvironments, repo: Path) -> None:
        (repo / "pyproject.toml").write_text(
            '[project]\nname = "q"\nversion = "1"\ndependencies = ["six==1.16.0"]\n'
        )
        assert requirements.names(fresh.resolve(repo, None, None).requirements) == {"six"}
        (repo / "other.lock").write_text(PINNED_SIX)
        assert fresh.resolve(repo, None, "other.lock").source == "other.lock"

    def test_no_requirements_at_all_are_an_empty_lock(self, fresh: UvEnvironments, repo: Path) -> None:
        (repo / "requirements.txt").write_text("# none\n")
        assert fresh.resolve(repo, "3.11", None).requirements == ""

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("six==99\n", "no version of six==99"),
            ("six==[\n", "Couldn't parse"),
            ("-r none.txt\n", "none.txt"),
        ],
    )
    def test_what_cannot_be_resolved_is_the_users(
        self, fresh: UvEnvironments, repo: Path, text: str, says: str
    ) -> None:
        (repo / "requirements.txt").write_text(text)
        with pytest.raises(UserError, match=r"Could not resolve requirements\.txt") as failure:
            fresh.resolve(repo, "3.11", None)
        assert says in failure.value.found

    def test_a_repo_without_requirements_is_told_what_to_do(self, fresh: UvEnvironments, repo: Path) -> None:
        with pytest.raises(UserError, match="does not say which packages") as failure:
            fresh.resolve(repo, None, None)
        assert "requirements.txt" in failure.value.remedy
        with pytest.raises(UserError, match=r"There is no other\.lock"):
            fresh.resolve(repo, None, "other.lock")
        (repo / "requirements.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match="not a text file"):
            fresh.resolve(repo, None, None)
        with pytest.raises(UserError, match="too old"):
            fresh.resolve(repo, "3.8", None)


class TestInstall:
    def test_the_model_has_its_lock_the_server_and_nothing_of_ours(
        self, environments: UvEnvironments, installed: Installed, tmp_path: Path
    ) -> None:
        program = (
            "import sklearn, pandas, mlops_serve.lifecycle, importlib.util as u;"
            "print(sklearn.__version__, pandas.__version__, u.find_spec('mlops'))"
        )
        command = Command(
            arguments=["python", "-c", program], folder=tmp_path, log=tmp_path / "log", timeout_seconds=60
        )
        assert environments.run(installed, command).tail == "1.5.2 2.2.3 None"
        again = UvEnvironments(environments._home).install(installed.locked)
        assert again == installed

    def test_a_wrong_hash_installs_nothing(self, fresh: UvEnvironments, tmp_path: Path) -> None:
        wrong = f"six==1.16.0 --hash=sha256:{'0' * 64}\n"
        with pytest.raises(UserError, match="Could not install") as failure:
            fresh.install(Locked("3.11", wrong, "requirements.lock"))
        assert "Hash mismatch" in failure.value.found
        assert list((tmp_path / "home" / "envs").glob("*/complete")) == []

    def test_a_python_that_is_absent_is_named_with_those_that_exist(self, fresh: UvEnvironments) -> None:
        with pytest.raises(UserError, match=r"Python 3\.99 is not installed") as failure:
            fresh.install(Locked("3.99", "", "test"))
        assert f"3.{sys.version_info.minor}" in failure.value.found

    @pytest.mark.slow
    def test_sixteen_at_once_make_one_environment(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        argv = [sys.executable, "-c", INSTALL, str(home), PINNED_SIX]
        processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(16)]
        paths = {process.communicate(timeout=120)[0].strip() for process in processes}
        assert [process.returncode for process in processes] == [0] * 16
        assert len(paths) == 1
        environments = [path for path in (home / "envs").iterdir() if path.is_dir()]
        assert len(environments) == 1
        _imports_six(Path(paths.pop()))

    @pytest.mark.slow
    def test_an_install_that_was_killed_is_made_again(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        argv = [sys.executable, "-c", INSTALL, str(home), PINNED_SIX]
        killed = 0
        for after_seconds in (0.3, 0.6, 0.9):
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
            deadline = time.monotonic() + 30
            while not list(home.glob("envs/*/bin")) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(after_seconds - 0.3)
            os.kill(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            process.communicate()
        assert killed
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
        _imports_six(Path(done.stdout.strip()))
        assert (Path(done.stdout.strip()).parents[1] / "complete").exists()


def _imports_six(python: Path) -> None:
    found = subprocess.run(
        [str(python), "-c", "import six, mlops_serve.app; print(six.__version__)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout == "1.16.0\n"


class TestRun:
    def command(self, folder: Path, arguments: str, seconds: float = 30) -> Command:
        return Command(arguments=arguments, folder=folder, log=folder / "log", timeout_seconds=seconds)

    def test_it_gets_few_of_our_variables_and_its_own_programs_first(
        self,
        environments: UvEnvironments,
        installed: Installed,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        monkeypatch.setenv("PYTHONPATH", "/somewhere")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        program = (
            "python -c 'import os, sys; print(sys.prefix); "
            'print(sorted(set(os.environ) & {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "OMP_NUM_THREADS", "MINE"}))\''
        )
        lines: list[str] = []
        command = self.command(tmp_path, program)
        command = Command(
            arguments=command.arguments,
            folder=tmp_path,
            log=tmp_path / "log",
            timeout_seconds=30,
            variables={"MINE": "1"},
        )
        completed = environments.run(installed, command, lines.append)
        assert completed.code == 0
        assert lines == [str(installed.python.parent.parent), "['MINE', 'OMP_NUM_THREADS']"]
        assert (tmp_path / "log").read_text().splitlines() == lines
        assert minimal(installed.python)["OMP_WAIT_POLICY"] == "PASSIVE"
        monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
        assert minimal(installed.python)["OMP_WAIT_POLICY"] == "ACTIVE"

    def test_a_failure_and_a_time_limit_are_told_apart(
        self, environments: UvEnvironments, installed: Installed, tmp_path: Path
    ) -> None:
        failed = environments.run(installed, self.command(tmp_path, "python -c 'raise SystemExit(7)'"))
        assert (failed.code, failed.timed_out) == (7, False)
        late = environments.run(
            installed, self.command(tmp_path, "python -c 'import time; time.sleep(60)'", 0.5)
        )
        assert late.timed_out
        assert late.code < 0

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [("trian --fast", "no program `trian`"), ("", "nothing"), ("python 'x", "quotation")],
    )
    def test_a_command_that_cannot_be_one_is_the_users(
        self,
        environments: UvEnvironments,
        installed: Installed,
        tmp_path: Path,
        arguments: str,
        says: str,
    ) -> None:
        with pytest.raises(UserError, match="cannot be run") as failure:
            environments.run(installed, self.command(tmp_path, arguments))
        assert says in failure.value.found

    @pytest.fixture
    def unhandled(self) -> Iterator[None]:
        """No handler of the test run's own (coverage has one) for the word to stop."""
        former = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        yield
        signal.signal(signal.SIGTERM, former)

    @pytest.mark.usefixtures("unhandled")
    def test_a_word_to_stop_ends_the_whole_group(
        self, environments: UvEnvironments, installed: Installed, tmp_path: Path
    ) -> None:
        program = (
            "python -c 'import os, subprocess, sys, time; "
            'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]); '
            "print(child.pid); time.sleep(60)'"
        )
        children: list[int] = []

        def stop(line: str) -> None:
            children.append(int(line))
            os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted):
            environments.run(installed, self.command(tmp_path, program), stop)
        deadline = time.monotonic() + 10
        while _lives(children[0]):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


class TestRequirements:
    TEXT = (
        "a==1 \\\n    --hash=sha256:00\nB_c[x]==2 ; python_version < '3.12'  # why\n\n--index-url x\n-e .\n"
    )

    def test_entries_are_joined_and_named(self) -> None:
        assert requirements.entries(self.TEXT) == [
            "a==1 --hash=sha256:00",
            "B_c[x]==2 ; python_version < '3.12'",
            "--index-url x",
            "-e .",
        ]
        assert requirements.names(self.TEXT) == {"a", "b-c"}
        assert requirements.without(self.TEXT, frozenset({"b-c"})).startswith("a==1 --hash")

    @pytest.mark.parametrize(
        ("text", "locked"),
        [
            ("a==1 --hash=sha256:00\n", True),
            ("a[x]==1.0.post1 ; sys_platform == 'linux' --hash=sha256:00\n", True),
            ("a==1\n", False),
            ("a>=1 --hash=sha256:00\n", False),
            ("a==1.* --hash=sha256:00\n", False),
            ("a==1 --hash=sha256:00\nb==2\n", False),
            ("", False),
        ],
    )
    def test_locked_means_pinned_with_hashes(self, text: str, locked: bool) -> None:
        assert requirements.is_locked(text) is locked

    def test_files_that_include_each_other_end(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("-r b.txt\n")
        (tmp_path / "b.txt").write_text("-r a.txt\n-c c.txt\n")
        assert [path.name for path in requirements.included(tmp_path / "a.txt")] == [
            "a.txt",
            "b.txt",
            "c.txt",
        ]
