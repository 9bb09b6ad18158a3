"""The exported JSON Schemas are current, and say the same as the reader."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mlops.contract.model import Contract
from mlops.contract.schema import contract_schema
from mlops.documents import schemas
from mlops.profile import profile_schema

REPO = Path(__file__).parents[2]
MINIMAL = {"model": "flights", "data": "a.csv", "target": "y", "train": "python train.py", "metric": "auc"}


@pytest.fixture(scope="module")
def contract_validator() -> Draft202012Validator:
    schema = json.loads(contract_schema())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize(
    ("name", "text", "module"),
    [
        ("contract.schema.json", contract_schema, "mlops.contract.schema"),
        ("profile.schema.json", profile_schema, "mlops.profile"),
    ],
)
def test_the_exported_schema_is_current(name: str, text: Any, module: str) -> None:
    kept = (REPO / "resources" / "mlops" / name).read_text()
    assert kept == text(), f"write it again: .venv/bin/python -m {module}"


def test_running_the_module_writes_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "resources", lambda: tmp_path)
    runpy.run_path(str(REPO / "runners" / "mlops" / "contract" / "schema.py"), run_name="__main__")
    assert (tmp_path / "contract.schema.json").read_text() == contract_schema()


VALID: list[dict[str, Any]] = [
    MINIMAL,
    {
        **MINIMAL,
        "data": {"train": "a.csv", "holdout": "b.csv", "schema": "schema.py:schema", "ignore": ["x"]},
    },
    {**MINIMAL, "train": {"entry_point": "main", "parameters": {"epochs": 10, "fast": True, "name": "x"}}},
    {**MINIMAL, "metric": {"name": "rmse", "slices": [{"column": "c", "bins": 4}]}, "task": "regression"},
    {**MINIMAL, "environment": {"python": "3.11", "lock": "requirements.lock"}, "test": {"required": False}},
    {
        **MINIMAL,
        "rollout": {"steps": [5, 100], "objective": {"error_rate": 0.02}},
        "serve": {"batch_rows": 8},
    },
    {**MINIMAL, "data": {"train": "data/sub.folder/a..b.csv"}},
]
REFUSED: list[dict[str, Any]] = [
    {**MINIMAL, "taget": "y"},
    {**MINIMAL, "test": {"comand": "x"}},
    {**MINIMAL, "data": {"train": "a.csv", "hold_out": "b.csv"}},
    {**MINIMAL, "data": "../a.csv"},
    {**MINIMAL, "data": "/a.csv"},
    {**MINIMAL, "data": {"train": "a.csv", "schema": "schema.py"}},
    {**MINIMAL, "metric": "acc"},
    {**MINIMAL, "model": "Flights"},
    {**MINIMAL, "environment": {"python": 3.11}},
    {**MINIMAL, "test": {"required": "no"}},
    {**MINIMAL, "test": {"timeout": "900"}},
    {key: value for key, value in MINIMAL.items() if key != "target"},
]


@pytest.mark.parametrize("values", VALID)
def test_schema_and_reader_accept_the_same(
    contract_validator: Draft202012Validator, values: dict[str, Any]
) -> None:
    assert not list(contract_validator.iter_errors(values))
    assert Contract.model_validate(values)


@pytest.mark.parametrize("values", REFUSED)
def test_schema_and_reader_refuse_the_same(
    contract_validator: Draft202012Validator, values: dict[str, Any]
) -> None:
    assert list(contract_validator.iter_errors(values))
    with pytest.raises(ValueError, match=r"validation error"):
        Contract.model_validate(values)


def test_every_example_of_this_project_fits_the_schema(contract_validator: Draft202012Validator) -> None:
    for path in REPO.glob("examples/*/mlops.yaml"):
        assert not list(contract_validator.iter_errors(yaml.safe_load(path.read_text()))), path


def test_every_field_says_what_it_is_for() -> None:
    schema = json.loads(contract_schema())
    sections = {"the contract": schema, **schema["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, part in section.get("properties", {}).items()
        if "description" not in part and "$ref" not in part
    ]
    assert not silent


def test_the_profile_schema_requires_nothing() -> None:
    schema = json.loads(profile_schema())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert not list(validator.iter_errors({}))
    assert not list(
        validator.iter_errors({"port": 8080, "store": "s3://bucket/x", "required_stages": ["test"]})
    )
    assert list(validator.iter_errors({"prot": 8080}))
    assert list(validator.iter_errors({"store": "ftp://x"}))
