"""A packaged model on disk: ``package.json`` beside the MLflow model folder ``model/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_serve.failures import Unusable
from mlops_serve.signature import Column, columns_of


@dataclass(frozen=True)
class Package:
    """What the server must know before it loads the model."""

    name: str
    model: Path
    """The folder with ``MLmodel``."""
    flavors: Mapping[str, Mapping[str, Any]]
    """The flavours as ``MLmodel`` configures them."""
    inputs: tuple[Column, ...]
    """Empty when the model declares none: anything is passed on to it."""
    outputs: tuple[Column, ...]
    drain_seconds: float = 20.0
    batch_rows: int = 64
    facts: Mapping[str, Any] = field(default_factory=dict)
    """All of ``package.json``."""


def read_package(folder: Path) -> Package:
    """Read a package; a bare MLflow model folder counts as one, with defaults. Raises Unusable."""
    facts = _facts(folder)
    model = folder / "model" if (folder / "model" / "MLmodel").is_file() else folder
    mlmodel = read_mlmodel(model)
    signature = facts.get("signature") or {}
    declared = mlmodel.get("signature") or {}
    inputs = columns_of(declared.get("inputs")) or columns_of(signature.get("inputs"))
    serve = facts.get("serve") or {}
    return Package(
        name=str(facts.get("model") or folder.name),
        model=model,
        flavors=mlmodel.get("flavors") or {},
        inputs=inputs or _any_columns(facts),
        outputs=columns_of(declared.get("outputs")) or columns_of(signature.get("outputs")),
        drain_seconds=float(serve.get("drain_seconds", 20)),
        batch_rows=int(serve.get("batch_rows", 64)),
        facts=facts,
    )


def read_mlmodel(model: Path) -> Mapping[str, Any]:
    """Read ``MLmodel``; raises Unusable."""
    import yaml  # comes with MLflow

    try:
        content = yaml.load((model / "MLmodel").read_text(), Loader=_loader(yaml))  # noqa: S506 - a safe loader
    except (OSError, yaml.YAMLError) as error:
        raise Unusable(f"{model} has no readable MLmodel: {error}") from error
    if not isinstance(content, dict):
        raise Unusable(f"{model / 'MLmodel'} is not an MLmodel file")
    return content


def _loader(yaml: Any) -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _facts(folder: Path) -> Mapping[str, Any]:
    try:
        facts = json.loads((folder / "package.json").read_text())
    except FileNotFoundError:
        if not (folder / "MLmodel").is_file():
            raise Unusable(f"{folder} is neither a package nor an MLflow model folder") from None
        return {}
    except ValueError as error:
        raise Unusable(f"{folder / 'package.json'} is not JSON: {error}") from error
    return dict(facts)


def _any_columns(facts: Mapping[str, Any]) -> tuple[Column, ...]:
    return tuple(Column(name=str(name), type="any") for name in facts.get("features") or ())
