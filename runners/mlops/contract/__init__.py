"""The contract of a model repo: its model (:mod:`mlops.contract.model`) and its reader (:mod:`mlops.contract.loading`)."""

from mlops.contract.model import Contract

__all__ = ["Contract"]
