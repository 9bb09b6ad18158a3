"""The profile comes from defaults, file and variables, later ones winning; mistakes are named with their place."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from mlops.documents import DocumentError, schemas
from mlops.errors import UserError
from mlops.profile import Profile, load_profile, profile_file, profile_schema


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def written(home: Path, text: str) -> Path:
    path = home / ".config" / "mlops" / "profile.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_anything_the_embedded_profile_lives_below_the_users_home(home: Path) -> None:
    profile = load_profile({"HOME": str(home)})
    assert profile == Profile(home=home / ".local" / "share" / "mlops")
    assert profile.store_url == (home / ".local" / "share" / "mlops" / "store").as_uri()
    assert profile.heads_url != profile.store_url
    assert not home.exists(), "reading a profile makes nothing"


def test_xdg_folders_are_followed_and_relative_ones_ignored(home: Path, tmp_path: Path) -> None:
    environ = {
        "HOME": str(home),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "conf"),
    }
    (tmp_path / "conf" / "mlops").mkdir(parents=True)
    (tmp_path / "conf" / "mlops" / "profile.yaml").write_text("name: mine\n")
    assert load_profile(environ).home == tmp_path / "data" / "mlops"
    assert load_profile(environ).name == "mine"
    assert load_profile({"HOME": str(home), "XDG_DATA_HOME": "data"}).home == home / ".local/share/mlops"


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(home: Path) -> None:
    written(home, "port: 8080\ntick_seconds: 2\nenvironment: staging\nrequired_stages: [test, train]\n")
    profile = load_profile({"HOME": str(home), "MLOPS_PORT": "9090"})
    assert (profile.port, profile.tick_seconds, profile.environment) == (9090, 2, "staging")
    assert profile.required_stages == ("test", "train")


def test_variables_are_read_as_the_type_of_their_field(home: Path, tmp_path: Path) -> None:
    profile = load_profile(
        {
            "HOME": str(home),
            "MLOPS_TRAFFIC_RATE": "99.5",
            "MLOPS_REQUIRED_STAGES": "validate, train,",
            "MLOPS_TRUSTED_KEYS": f"{tmp_path}/a.pub,b.pub",
            "MLOPS_SIGNING_KEY": str(tmp_path / "key"),
            "MLOPS_HOME": str(tmp_path / "state"),
            "MLOPS_STORE": "s3://bucket/prefix",
            "MLOPS_PLATFORM": "",
            "MLOPS_DEBUG": "1",
            "MLOPS_KILL_AT": "nowhere",
        }
    )
    assert profile.traffic_rate == 99.5
    assert profile.required_stages == ("validate", "train")
    assert profile.trusted_keys == (tmp_path / "a.pub", Path.cwd() / "b.pub")
    assert (profile.signing_key, profile.home) == (tmp_path / "key", tmp_path / "state")
    assert profile.platform == "local", "an empty variable is no value"


def test_mlflows_own_variable_counts_unless_ours_is_given(home: Path) -> None:
    environ = {"HOME": str(home), "MLFLOW_TRACKING_URI": "http://a:5000"}
    assert load_profile(environ).tracking_uri == "http://a:5000"
    assert load_profile({**environ, "MLOPS_TRACKING_URI": "http://b:5000"}).tracking_uri == "http://b:5000"
    written(home, "tracking_uri: http://file:5000\n")
    assert load_profile(environ).tracking_uri == "http://a:5000"


def test_an_unknown_variable_is_refused_with_the_nearest_known_one(home: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_profile({"HOME": str(home), "MLOPS_PROT": "1"})
    assert caught.value.headline == "unknown environment variable MLOPS_PROT"
    assert caught.value.remedy == "unset MLOPS_PROT, or rename it to MLOPS_PORT"
    with pytest.raises(UserError) as caught:
        load_profile({"HOME": str(home), "MLOPS_QQQQQQ": "1", "MLOPS_SOTRE": "x"})
    assert caught.value.headline == "the environment has 2 mistakes"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MLOPS_PORT": "80x"}, "MLOPS_PORT: `port` has a wrong value: expected a whole number at least 0"),
        ({"MLOPS_PORT": "99999"}, "at most 65535, found `99999`"),
        (
            {"MLOPS_STORE": "/tmp/x"},
            "MLOPS_STORE: `store` has a wrong value: expected a URL that starts with file://",
        ),
        ({"MLOPS_TICK_SECONDS": "nan"}, "`tick_seconds` has a wrong value"),
        (
            {"MLOPS_STORE": "file:///a", "MLOPS_HEADS": "file:///a"},
            "`heads` must be another place than `store`",
        ),
        ({"MLOPS_ENVIRONMENT": "Prod!"}, "lower-case letters"),
    ],
)
def test_a_wrong_variable_is_named(home: Path, variables: dict[str, str], expected: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_profile({"HOME": str(home), **variables})
    assert expected in str(caught.value)


def test_mistakes_in_the_file_are_named_with_line_and_column(home: Path) -> None:
    path = written(home, "prot: 1\nport: many\ntick_seconds: 0\n")
    with pytest.raises(DocumentError) as caught:
        load_profile({"HOME": str(home), "MLOPS_TRAFFIC_RATE": "-1"})
    found = [str(problem) for problem in caught.value.problems]
    assert found[0].startswith("MLOPS_TRAFFIC_RATE: `traffic_rate`")
    assert found[1].startswith(f"{path}:1:1: unknown key `prot`")
    assert found[1].endswith("did you mean `port`?")
    assert found[2].startswith(f"{path}:2:7: `port` has a wrong value")
    assert found[3].startswith(f"{path}:3:15: `tick_seconds`")


def test_paths_in_the_file_are_relative_to_the_file(home: Path) -> None:
    path = written(home, "home: state\nsigning_key: ~/key\ntrusted_keys: [a.pub]\n")
    profile = load_profile({"HOME": str(home)})
    assert profile.home == path.parent / "state"
    assert profile.signing_key == Path("~/key").expanduser()
    assert profile.trusted_keys == (path.parent / "a.pub",)
    written(home, "home: 5\ntrusted_keys: [5]\n")
    with pytest.raises(DocumentError, match="`home` has a wrong value"):
        load_profile({"HOME": str(home)})


def test_a_profile_that_is_named_must_exist(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_profile({"HOME": str(home), "MLOPS_PROFILE": str(tmp_path / "absent.yaml")})
    assert caught.value.where == "MLOPS_PROFILE"
    (tmp_path / "p.yaml").write_text("name: named\n")
    assert load_profile({"HOME": str(home), "MLOPS_PROFILE": str(tmp_path / "p.yaml")}).name == "named"
    assert profile_file({"HOME": str(home)}) is None


def test_running_the_module_writes_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "resources", lambda: tmp_path)
    runpy.run_path(str(Path(schemas.__file__).parents[1] / "profile.py"), run_name="__main__")
    assert (tmp_path / "profile.schema.json").read_text() == profile_schema()
