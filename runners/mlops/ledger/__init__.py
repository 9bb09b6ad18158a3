"""The append-only record of every decision, and the only source of truth on what is deployed."""

from mlops.ledger.form import Author, BrokenLedger, Finding
from mlops.ledger.heads import Heads, StoreHeads
from mlops.ledger.ledger import Conflict, Ledger, models

__all__ = ["Author", "BrokenLedger", "Conflict", "Finding", "Heads", "Ledger", "StoreHeads", "models"]
