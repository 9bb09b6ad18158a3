"""The contract of a model repo: its model and, in :mod:`mlops.contract.loading`, its reader."""

from mlops.contract.model import Contract

__all__ = ["Contract"]
