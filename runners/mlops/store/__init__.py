"""The object storage of the ledger, the stage cache and the packages: file, S3, GCS and Azure by URL."""

from mlops.store.objects import Store
from mlops.store.opening import open_store

__all__ = ["Store", "open_store"]
