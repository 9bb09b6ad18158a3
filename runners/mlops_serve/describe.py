"""Say what a model folder holds: flavours, signature, features, classes, kind."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_serve.loading import load
from mlops_serve.package import read_mlmodel, read_package


def describe(model: Path) -> Mapping[str, Any]:
    """Load an MLflow model folder (or a package) and return its facts as JSON values; raises Unusable."""
    package = read_package(model)
    loaded = load(package)
    mlmodel = read_mlmodel(package.model)
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "kind": loaded.kind,
        "flavors": sorted(package.flavors),
        "signature": {
            "inputs": [column.as_record() for column in package.inputs],
            "outputs": [column.as_record() for column in package.outputs],
        },
        "features": [column.name for column in package.inputs if not column.is_tensor],
        "classes": loaded.classes,
        "mlflow_version": mlmodel.get("mlflow_version", ""),
        "bytes": sum(path.stat().st_size for path in package.model.rglob("*") if path.is_file()),
    }
