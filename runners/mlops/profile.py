"""The profile: where things run. It is the platform's, never in a model repo.

Read, later wins: built-in embedded defaults, the file named by ``MLOPS_PROFILE`` (else
``<config>/mlops/profile.yaml`` where it exists), environment variables ``MLOPS_<FIELD>`` and
``MLFLOW_TRACKING_URI``.
"""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlops.documents import Document, DocumentError, Position, Problem, checked, read_document
from mlops.documents.problems import nearest
from mlops.documents.reading import Place
from mlops.documents.schemas import PATTERN_WORDS, resources, schema_text
from mlops.errors import UserError

StoreUrl = Annotated[
    str,
    Field(
        pattern=r"^((file|s3|s3a|gs|az|abfs|abfss|azure)://\S+)?$",
        json_schema_extra={PATTERN_WORDS: "a URL that starts with file://, s3://, gs:// or az://"},
    ),
]


Found = TypeVar("Found")


class Profile(BaseModel):
    """Where things run; by default embedded: everything below ``home``, nothing to start by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(default="embedded", description="Name of the profile, shown in results.")
    environment: str = Field(
        default="production",
        pattern=r"^[a-z][a-z0-9-]*$",
        json_schema_extra={PATTERN_WORDS: "lower-case letters, digits and dashes, a letter first"},
        description="Environment that `mlops run` releases to.",
    )
    home: Path = Field(description="Folder for state on this machine; `$XDG_DATA_HOME/mlops` by default.")
    store: StoreUrl = Field(
        default="",
        description="URL of the object storage for ledger and cache: file, s3, gs or az; below `home`"
        " by default.",
    )
    heads: StoreUrl = Field(
        default="",
        description="URL of the second place that keeps the signed head of each ledger; below `home`"
        " by default.",
    )
    tracking_uri: str = Field(
        default="", description="MLflow tracking server; one on SQLite below `home` is started when empty."
    )
    platform: str = Field(
        default="local", description="Rollout platform, by its name among the entry points."
    )
    required_stages: tuple[str, ...] = Field(
        default=("validate", "train", "package", "evaluate", "benchmark", "register"),
        description="Stages that must have passed before a release; a skipped one refuses it.",
    )
    traffic_rate: Annotated[float, Field(ge=0)] = Field(
        default=1200,
        description="Requests per second that are replayed during a rollout on a laptop; 0 replays none.",
    )
    tick_seconds: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Seconds between two looks at a running rollout."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0,
        description="Port that users call on the local platform; a free one is chosen and kept when 0.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="Private ed25519 key that signs events and releases; made on first use below `home`.",
    )
    trusted_keys: tuple[Path, ...] = Field(
        default=(), description="Public keys whose signatures count; the own key always does."
    )
    lease_seconds: Annotated[float, Field(gt=0)] = Field(
        default=30, description="Seconds of silence after which the lease of a dead run is taken over."
    )
    wait_seconds: Annotated[float, Field(ge=0)] = Field(
        default=600, description="Seconds to wait for another run of the same model before giving up."
    )

    @property
    def store_url(self) -> str:
        """URL of the store, embedded default filled in."""
        return self.store or (self.home / "store").as_uri()

    @property
    def heads_url(self) -> str:
        """URL of the place of the ledger heads, embedded default filled in."""
        return self.heads or (self.home / "heads").as_uri()

    @model_validator(mode="after")
    def _two_places(self) -> Profile:
        if self.store_url == self.heads_url:
            raise ValueError(
                "`heads` must be another place than `store`: it is what shows that a ledger was shortened"
            )
        return self


NAMED_ELSEWHERE = frozenset(
    {"MLOPS_PROFILE", "MLOPS_DEBUG", "MLOPS_KILL_AT", "MLOPS_PROCESS_TOKEN"}
    | {"MLOPS_MODEL", "MLOPS_TARGET", "MLOPS_TRAIN_DATA"}
)
"""Variables with our prefix that are not fields: switches, marks, and what a training is given."""


def load_profile(environ: Mapping[str, str] = os.environ) -> Profile:
    """Return the profile for an environment; UserError names every mistake in its file or variables."""
    path = profile_file(environ)
    source = "the profile" if path is None else str(path)
    read = Document(source, {}) if path is None else read_document(path, source)
    values: dict[str, Any] = {"home": str(_base(environ, "XDG_DATA_HOME", ".local/share") / "mlops")}
    if path is not None:
        values |= _anchored(read.values, path.parent)
    return checked(_overlaid(read, values, _variables(environ)), Profile)


def _overlaid(
    read: Document, values: dict[str, Any], variables: Mapping[str, tuple[str, object]]
) -> Document:
    """Let variables win over the file, as the values and as the place that a mistake is reported at."""
    taken = {field: (variable, value) for variable, (field, value) in variables.items()}

    def kept(places: Mapping[Place, Found]) -> dict[Place, Found]:
        return {place: found for place, found in places.items() if not {*place[:1]} & {*taken}}

    return Document(
        read.source,
        {**values, **{field: value for field, (_, value) in taken.items()}},
        keys=kept(read.keys) | {(field,): Position(variable) for field, (variable, _) in taken.items()},
        starts=kept(read.starts),
        written=kept(read.written),
    )


def profile_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the profile's file, None where there is none; a file that is named must exist."""
    if named := environ.get("MLOPS_PROFILE"):
        path = Path(named).expanduser()
        if not path.is_file():
            raise UserError(
                "the profile named by MLOPS_PROFILE does not exist",
                expected="a YAML file",
                found=str(path),
                remedy="correct the variable MLOPS_PROFILE, or unset it for the embedded profile",
                where="MLOPS_PROFILE",
            )
        return path.absolute()
    path = _base(environ, "XDG_CONFIG_HOME", ".config") / "mlops" / "profile.yaml"
    return path if path.is_file() else None


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """Return an XDG base folder; relative values are ignored, as the specification (0.8) asks."""
    given = Path(environ.get(variable, ""))
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    return given if given.is_absolute() else home / below_home


_PATHS = ("home", "signing_key")


def _anchored(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Read paths in the file relative to the file."""
    anchored = dict(values)
    for name in _PATHS:
        if isinstance(anchored.get(name), str):
            anchored[name] = _absolute(anchored[name], folder)
    if isinstance(anchored.get("trusted_keys"), list):
        anchored["trusted_keys"] = [
            _absolute(item, folder) if isinstance(item, str) else item for item in anchored["trusted_keys"]
        ]
    return anchored


def _absolute(text: str, folder: Path) -> str:
    return str(folder / Path(text).expanduser()) if text else text


def _variables(environ: Mapping[str, str]) -> dict[str, tuple[str, object]]:
    """Return variable -> (field, value); raise for a variable with our prefix that nobody reads."""
    found: dict[str, tuple[str, object]] = {}
    if uri := environ.get("MLFLOW_TRACKING_URI"):
        found["MLFLOW_TRACKING_URI"] = ("tracking_uri", uri)
    problems = []
    for variable in sorted(environ):
        field = variable.removeprefix("MLOPS_").lower()
        if not variable.startswith("MLOPS_") or variable in NAMED_ELSEWHERE:
            continue
        if field not in Profile.model_fields:
            problems.append(_unknown(variable))
        elif environ[variable]:
            if field == "tracking_uri":
                found.pop("MLFLOW_TRACKING_URI", None)
            found[variable] = (field, _value(field, environ[variable]))
    if problems:
        raise DocumentError("the environment", problems, remedy=_rename(problems))
    return found


def _unknown(variable: str) -> Problem:
    known = [f"MLOPS_{field.upper()}" for field in Profile.model_fields]
    return Problem(
        where=Position(variable),
        headline=f"unknown environment variable {variable}",
        expected="a field of the profile: " + ", ".join(known),
        nearest=nearest(variable, [*known, "MLOPS_PROFILE", "MLOPS_DEBUG"]),
    )


def _rename(problems: list[Problem]) -> str:
    first = problems[0]
    also = f", or rename it to {first.nearest}" if first.nearest else ""
    return f"unset {' '.join(str(problem.where) for problem in problems)}" + also


def _value(field: str, text: str) -> object:
    """Read a variable as the type of its field; text that does not fit is left for the check to name."""
    kind = Profile.model_fields[field].annotation
    options = get_args(kind) if get_origin(kind) is types.UnionType else (kind,)
    if any(get_origin(option) is tuple for option in options):
        items = [item.strip() for item in text.split(",") if item.strip()]
        return [_absolute(item, Path.cwd()) for item in items] if field == "trusted_keys" else items
    if field in _PATHS:
        return _absolute(text, Path.cwd())
    for number in (int, float):
        if number in options:
            try:
                return number(text)
            except ValueError:
                return text
    return text


SCHEMA_FILE = "profile.schema.json"


def profile_schema() -> str:
    """Return the text of ``resources/mlops/profile.schema.json``: no key is required in the file."""
    return schema_text(
        Profile,
        identifier=f"https://schemas.invalid/mlops/{SCHEMA_FILE}",
        title="profile.yaml: where things run",
        required=(),
    )


if __name__ == "__main__":
    (resources() / SCHEMA_FILE).write_text(profile_schema(), encoding="utf-8")
