"""Read ``mlops.yaml``: the whole contract, or every mistake in it at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops.contract.model import Contract
from mlops.documents import Document, DocumentError, Problem, checked, read_document
from mlops.documents.reading import Place
from mlops.errors import UserError

FILE_NAME = "mlops.yaml"


class ContractError(DocumentError):
    """The contract has mistakes; ``problems`` holds them all."""


def load_contract(workspace: Path) -> Contract:
    """Return the contract of a model repo, defaults filled in; ContractError names all mistakes at once."""
    document = read_document(contract_file(workspace), FILE_NAME, error=ContractError)
    contract = checked(document, Contract, error=ContractError)
    if problems := list(_outside(document, contract, workspace)):
        raise ContractError(FILE_NAME, problems)
    return contract


def contract_file(workspace: Path) -> Path:
    """Return the path of the contract; raise :class:`UserError` with the way to one when there is none."""
    path = workspace / FILE_NAME
    if path.is_file():
        return path
    if not workspace.is_dir():
        raise UserError(
            f"no folder {workspace}",
            expected="the folder of a model repo",
            remedy="check the path",
            where=str(workspace),
        )
    near = [
        name
        for name in ("mlops.yml", "mlops.json", "MLops.yaml", "mlops.YAML")
        if (workspace / name).exists()
    ]
    raise UserError(
        f"no {FILE_NAME} in {workspace}",
        expected=f"the contract of the model, {FILE_NAME}",
        found=f"{near[0]}, which is not the name that is read" if near else "none",
        remedy=f"rename it: mv {near[0]} {FILE_NAME}" if near else f"mlops init {workspace}",
        where=str(path),
    )


def _outside(document: Document, contract: Contract, workspace: Path) -> Iterator[Problem]:
    root = workspace.resolve()
    for place, path in _paths(contract):
        real = (workspace / path).resolve()
        if not real.is_relative_to(root):
            yield Problem(
                where=document.position(place),
                headline=f"`{path}` leads out of the repo",
                expected="a file inside the repo, symbolic links followed",
                found=f"a link to {real}",
            )


def _paths(contract: Contract) -> Iterator[tuple[Place, str]]:
    data = contract.data
    schema = data.schema_.rpartition(":")[0] if data.schema_ else None
    for key, path in (
        ("train", data.train),
        ("holdout", data.holdout),
        ("replay", data.replay),
        ("schema", schema),
    ):
        if path is not None:
            yield ("data", key), path
    if contract.environment.lock is not None:
        yield ("environment", "lock"), contract.environment.lock
