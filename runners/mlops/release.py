"""A release: the thing that is deployed, named by the digest of all that it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlops.canonical import digest_json

RELEASE_TYPE = "application/vnd.mlops.release+json"
"""Payload type of the signed release, so that no other signature can stand in for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Model version + image + contract + evidence.

    ``version`` and ``evidence`` are not part of the digest's identity of *what runs*: two trainings of the same inputs that
    package to the same bytes under the same contract are the same release.
    """

    model: str
    version: str
    """The version in the model registry, as the registry writes it."""
    package: str
    """SHA-256 of the packaged model (model files, lock, interpreter, signature)."""
    contract: str
    """SHA-256 of the contract's serving-relevant part."""
    image: str | None = None
    """Image digest; absent where the profile has no container engine."""
    run_id: str = ""
    """The tracking run that trained it."""
    commit: str = ""
    """The commit of the model repo, empty outside git."""
    evidence: Mapping[str, str] = field(default_factory=dict)
    """Digest of each stage's result that led here."""

    @property
    def digest(self) -> str:
        """SHA-256 over model, package, image and contract."""
        return digest_json(
            {
                "model": self.model,
                "package": self.package,
                "image": self.image,
                "contract": self.contract,
            }
        )

    @property
    def short(self) -> str:
        """First twelve digits of the digest: enough for people and for names of processes."""
        return self.digest[:12]

    @property
    def envelope(self) -> str:
        """Where the store keeps the signed record (a DSSE envelope); one per digest, create-only."""
        return f"releases/{self.digest}.json"

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form, digest included."""
        return {**asdict(self), "evidence": dict(self.evidence), "digest": self.digest}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Release:
        """Rebuild from the JSON form; raises ValueError when the stored digest does not match the content."""
        fields = {name: value for name, value in record.items() if name != "digest"}
        release = cls(**fields)
        if record.get("digest", release.digest) != release.digest:
            raise ValueError(f"release digest {record['digest'][:12]} does not match its content")
        return release
