"""Load an MLflow model by its flavour; a model that has probabilities keeps them.

A scikit-learn model is read from its own file, without MLflow, which spares a server a second of imports.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_serve.failures import Unusable
from mlops_serve.model import Estimator, Generic, Model
from mlops_serve.package import Package

_ESTIMATORS = ("xgboost", "lightgbm", "catboost")
"""Flavours whose native loader may return an estimator with ``predict_proba``."""


def load(package: Package) -> Model:
    """Load the model; raises Unusable with the reason when it cannot be."""
    try:
        return _load(package)
    except Unusable:
        raise
    except Exception as error:  # model code and its libraries may raise anything while they are imported
        raise Unusable(f"cannot load {package.model}: {type(error).__name__}: {error}") from error


def _load(package: Package) -> Model:
    predict_fn = str((package.flavors.get("python_function") or {}).get("predict_fn", "predict"))
    estimator = _estimator(package)
    if estimator is not None and predict_fn in ("predict", "predict_proba"):
        return Estimator(estimator, package.inputs, invoked=predict_fn)
    if "python_function" not in package.flavors:
        raise Unusable(f"{package.model} has no flavour that can be served, found {sorted(package.flavors)}")
    return Generic(_pyfunc(package.model), package.inputs)


def _estimator(package: Package) -> Any | None:
    flavors = package.flavors
    if "sklearn" in flavors:
        _add_code(package)
        return _sklearn(package.model, flavors["sklearn"])
    for flavor in _ESTIMATORS:
        if flavor in flavors:
            loaded = importlib.import_module(f"mlflow.{flavor}").load_model(str(package.model))
            return loaded if hasattr(loaded, "predict_proba") else None
    return None


def _add_code(package: Package) -> None:
    """Make the code that was logged with the model importable, as MLflow does."""
    for flavor in ("sklearn", "python_function"):
        code = (package.flavors.get(flavor) or {}).get("code")
        if code:
            sys.path.insert(0, str(package.model / code))
            return


def _sklearn(model: Path, config: Mapping[str, Any]) -> Any:
    path = model / str(config.get("pickled_model", "model.pkl"))
    written = config.get("serialization_format", "pickle")
    if written == "skops":
        return importlib.import_module("skops.io").load(path, trusted=config.get("skops_trusted_types"))
    # A pickle runs code of its writer: packages come from the store by digest, and releases are signed.
    with path.open("rb") as stream:
        if written == "cloudpickle":
            return importlib.import_module("cloudpickle").load(stream)
        return pickle.load(stream)  # noqa: S301 - see above


def _pyfunc(model: Path) -> Any:
    return importlib.import_module("mlflow.pyfunc").load_model(str(model))
