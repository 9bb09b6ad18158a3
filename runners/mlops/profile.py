"""The profile: where things run. It is the platform's, never in a model repo.

Read, later wins: built-in embedded defaults, the file named by ``MLOPS_PROFILE`` (else ``<config>/mlops/profile.yaml`` where it
exists), environment variables ``MLOPS_<FIELD>`` and ``MLFLOW_TRACKING_URI``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Profile(BaseModel):
    """Where things run; the default is the embedded profile: everything below ``home``, nothing to start by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("embedded", description="Name of the profile, shown in results.")
    environment: str = Field(
        "production", pattern=r"^[a-z][a-z0-9-]*$", description="Environment that `mlops run` releases to."
    )
    home: Path = Field(description="Folder for state on this machine; `$XDG_DATA_HOME/mlops` by default.")
    store: str = Field(
        "", description="URL of the object storage for ledger and cache: file, s3, gs or az; below `home` by default."
    )
    heads: str = Field(
        "", description="URL of the second place that keeps the signed head of each ledger; below `home` by default."
    )
    tracking_uri: str = Field(
        "", description="MLflow tracking server; one on SQLite below `home` is started when empty."
    )
    platform: str = Field("local", description="Rollout platform, by its name among the entry points.")
    required_stages: tuple[str, ...] = Field(
        ("validate", "test", "train", "package", "evaluate", "benchmark", "register"),
        description="Stages that must have passed before a release; a skipped one refuses it.",
    )
    traffic_rate: Annotated[float, Field(ge=0)] = Field(
        1200, description="Requests per second that are replayed during a rollout on a laptop; 0 replays none."
    )
    tick_seconds: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Seconds between two looks at a running rollout."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="Port that users call on the local platform; a free one is chosen and kept when 0."
    )
    signing_key: Path | None = Field(
        None, description="Private ed25519 key that signs events and releases; made on first use below `home`."
    )
    trusted_keys: tuple[Path, ...] = Field(
        (), description="Public keys whose signatures count; the own key always does."
    )
    lease_seconds: Annotated[float, Field(gt=0)] = Field(
        30, description="Seconds of silence after which the lease of a dead run is taken over."
    )
    wait_seconds: Annotated[float, Field(ge=0)] = Field(
        600, description="Seconds to wait for another run of the same model before giving up."
    )

    @property
    def store_url(self) -> str:
        """URL of the store, embedded default filled in."""
        return self.store or (self.home / "store").as_uri()

    @property
    def heads_url(self) -> str:
        """URL of the place of the ledger heads, embedded default filled in."""
        return self.heads or (self.home / "heads").as_uri()
