"""The stage cache: a result is named by the digest of all that it was computed from.

``cache/<stage>/<key>/<generation>.json`` in the store, create-only: the first writer of a generation wins
and the others
adopt its output. The last generation counts, so a forced, expired or damaged result is replaced by the next
one, and
nothing is ever overwritten. The output folder is kept by digest (:mod:`mlops.artifacts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlops
from mlops.canonical import canonical_json, digest_json
from mlops.errors import InfrastructureError
from mlops.pipeline.results import StageResult, Status
from mlops.pipeline.stage import Forever, Never, Reads

if TYPE_CHECKING:
    from mlops.pipeline.stage import Stage, Validity
    from mlops.store import Store

_FORMAT = 1
_FOREVER = "forever"
_NEVER = "never"


class Damaged(InfrastructureError):  # noqa: N818 - says the fact
    """A kept result cannot be read back as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A kept result: what the stage said, the digest of its files, and how long both may be reused."""

    result: StageResult
    output: str
    """Digest of the output folder."""
    until: str
    """``forever``, ``never`` (only handed to later stages of a run that leaves this one out) or a UTC
    moment."""
    generation: int = 1

    def reusable(self, now: datetime) -> bool:
        """Say whether the stage may be answered from here instead of being run."""
        return self.until == _FOREVER or (self.until != _NEVER and now < datetime.fromisoformat(self.until))

    def handed_on(self, now: datetime) -> bool:
        """Say whether later stages may build on it while the stage itself is left out of the run."""
        return self.until == _NEVER or self.reusable(now)

    @property
    def identity(self) -> str:
        """Digest of all that later stages can read of it: files, facts and where they came from."""
        return digest_json({"key": self.result.key, "output": self.output, "facts": dict(self.result.facts)})


def key_of(stage: Stage, inputs: Mapping[str, str], upstream: Mapping[str, str]) -> str:
    """Return the key: digest of the stage's name, its inputs, the runner's version and what it reads of
    earlier stages.

    ``upstream`` maps each earlier stage to the identity of its result (:attr:`Entry.identity`).
    """
    read = {
        name: identity
        for name, identity in upstream.items()
        if not isinstance(stage, Reads) or name in stage.reads
    }
    return digest_json(
        {"stage": stage.name, "inputs": dict(inputs), "runner": mlops.__version__, "upstream": read}
    )


class Cache:
    """Keeps passed results and gives them back, whole or not at all."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, stage: str, key: str) -> Entry | None:
        """Return the last generation; None when nothing is kept; raises :class:`Damaged` when it cannot be
        read."""
        last = self.last_generation(stage, key)
        return self._read(stage, key, last) if last else None

    def keep(self, result: StageResult, output: Path, validity: Validity, *, replacing: int = 0) -> Entry:
        """Keep a passed result as the generation after ``replacing``; return the entry that counts from now
        on.

        That is another writer's when he was first: the caller then adopts his output.
        """
        if result.status is not Status.PASSED:
            raise ValueError(f"only passed results are kept, not {result.status}")
        from mlops.artifacts import keep_folder

        entry = Entry(
            result=result,
            output=keep_folder(self._store, output),
            until=_until(validity),
            generation=replacing + 1,
        )
        if self._store.create(_path(result.stage, result.key, entry.generation), _write(entry)):
            return entry
        try:
            return self._read(result.stage, result.key, entry.generation)
        except Damaged:
            return self.keep(result, output, validity, replacing=entry.generation)

    def last_generation(self, stage: str, key: str) -> int:
        """Return the number of the last generation, readable or not; 0 when there is none."""
        kept = self._store.list(_folder(stage, key))
        numbers = [Path(path).stem for path in kept]
        return max((int(number) for number in numbers if number.isdigit()), default=0)

    def restore(self, entry: Entry, into: Path) -> None:
        """Make the folder equal to the kept output; raises :class:`Damaged` when the kept files are not
        what was kept."""
        from mlops.artifacts import Corrupted, fetch_folder

        try:
            fetch_folder(self._store, entry.output, into)
        except Corrupted as error:
            # Content that is not what its name says is nobody's; were it left, the same content could never
            # be kept again.
            self._store.delete(error.where.removeprefix(self._store.url.rstrip("/") + "/"))
            raise _damaged(entry.result.stage, error.headline) from error

    def _read(self, stage: str, key: str, generation: int) -> Entry:
        data = self._store.get(_path(stage, key, generation))
        if data is None:
            raise _damaged(stage, "the entry is gone")
        entry = _parse(stage, data)
        if entry.result.stage != stage or entry.result.key != key:
            raise _damaged(stage, "the entry belongs to another key")
        return replace(entry, generation=generation)


def _folder(stage: str, key: str) -> str:
    return f"cache/{stage}/{key}/"


def _path(stage: str, key: str, generation: int) -> str:
    return f"{_folder(stage, key)}{generation:06d}.json"


def _until(validity: Validity) -> str:
    if isinstance(validity, Never):
        return _NEVER
    if isinstance(validity, Forever):
        return _FOREVER
    moment = validity if validity.tzinfo else validity.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat()


def _write(entry: Entry) -> bytes:
    body: dict[str, Any] = {
        "format": _FORMAT,
        "result": entry.result.as_record(),
        "output": entry.output,
        "until": entry.until,
    }
    return canonical_json({"body": body, "digest": digest_json(body)})


def _parse(stage: str, data: bytes) -> Entry:
    try:
        record = json.loads(data)
        body = record["body"]
        intact = digest_json(body) == record["digest"]
        entry = Entry(
            result=StageResult.from_record(body["result"]), output=body["output"], until=body["until"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(stage, f"not a cache entry ({type(error).__name__})") from error
    if not intact:
        raise _damaged(stage, "its digest does not match its content")
    return entry


def _damaged(stage: str, detail: str) -> Damaged:
    return Damaged(
        f"the kept result of {stage} is damaged: {detail}",
        expected="the bytes that were kept",
        found=detail,
        remedy="nothing to do: it is computed again; look after the disk or bucket if this comes back",
        where=stage,
    )
