"""Documents that people write in YAML: read with positions, checked, explained in plain words."""

from mlops.documents.explaining import checked
from mlops.documents.problems import DocumentError, Position, Problem
from mlops.documents.reading import Document, read_document
from mlops.documents.schemas import schema_text

__all__ = [
    "Document",
    "DocumentError",
    "Position",
    "Problem",
    "checked",
    "read_document",
    "schema_text",
]
