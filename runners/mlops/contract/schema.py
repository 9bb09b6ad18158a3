"""Write the JSON Schema of the contract, so that editors complete it: ``python -m mlops.contract.schema``."""

from __future__ import annotations

from mlops.contract.model import Contract
from mlops.documents.schemas import resources, schema_text

FILE_NAME = "contract.schema.json"


def contract_schema() -> str:
    """Return the text of ``resources/mlops/contract.schema.json``."""
    return schema_text(
        Contract,
        identifier=f"https://schemas.invalid/mlops/{FILE_NAME}",
        title="mlops.yaml: the contract of a model",
    )


if __name__ == "__main__":
    (resources() / FILE_NAME).write_text(contract_schema(), encoding="utf-8")
