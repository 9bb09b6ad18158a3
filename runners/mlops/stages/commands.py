"""How a candidate is trained: the contract's command, or what ``mlflow run`` makes of an entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.contract import Contract
from mlops.errors import UserError


@dataclass(frozen=True, slots=True)
class TrainingCommand:
    """What is run, and how a person would write it."""

    arguments: str | tuple[str, ...]
    """As :class:`mlops.environments.port.Command` takes it."""
    shown: str
    parameters: Mapping[str, str]
    """Those that were given; what ``mlflow run -P`` would log."""


def training_command(contract: Contract, folder: Path) -> TrainingCommand:
    """Return the training's command for the repo copy in ``folder``.

    An entry point is computed by MLflow's own loader and run by ``bash -c``, as ``mlflow run --env-manager
    local`` does it: defaults, types, quoting, unknown parameters passed on as ``--key value``. UserError with
    MLflow's sentence when it cannot be.
    """
    if contract.train.command is not None:
        return TrainingCommand(contract.train.command, contract.train.command, {})
    name = contract.train.entry_point or "main"
    parameters = {key: _as_typed(value) for key, value in contract.train.parameters.items()}
    command = _computed(folder, name, parameters)
    return TrainingCommand(("bash", "-c", command), command, parameters)


def _computed(folder: Path, name: str, parameters: Mapping[str, str]) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.projects._project_spec import load_project
    from yaml import YAMLError

    if not any(file.name.lower() == "mlproject" for file in folder.iterdir()):
        raise _unusable(name, f"no MLproject file in the repo, for the entry point {name!r}")
    storage = folder.parent / "parameters"
    storage.mkdir(exist_ok=True)
    try:
        entry = load_project(str(folder)).get_entry_point(name)
        return str(entry.compute_command(_with_paths(entry, folder, parameters), str(storage)))
    except (MlflowException, YAMLError) as error:
        raise _unusable(name, str(error)) from error
    except (KeyError, IndexError, ValueError) as error:
        # What `str.format` raises for a `{name}` in the command that is no parameter.
        raise _unusable(name, f"the command names a parameter that it does not declare: {error}") from error
    except (AttributeError, TypeError) as error:
        # MLflow does not check the form of the file.
        raise _unusable(name, f"MLproject does not have the form that MLflow expects: {error}") from error


def _with_paths(entry: Any, folder: Path, given: Mapping[str, str]) -> dict[str, str]:  # noqa: ANN401 - MLflow's
    """Return the parameters with paths of the repo made absolute, as MLflow does in the folder that it runs in."""
    values = dict(given)
    for name, parameter in entry.parameters.items():
        value = given.get(name, parameter.default)
        if parameter.type == "path" and value is not None and (folder / str(value)).exists():
            values[name] = str(folder / str(value))
    return values


def _as_typed(value: str | float | bool) -> str:
    """Write a value as it stands in YAML and as a person would type it after ``-P``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unusable(name: str, found: str) -> UserError:
    return UserError(
        f"The entry point {name!r} cannot be run",
        expected="an MLproject that `mlflow run .` accepts",
        found=found,
        remedy="Correct MLproject, or `train.entry_point` and `train.parameters` in mlops.yaml.",
        where="MLproject",
    )
