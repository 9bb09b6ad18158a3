"""Turn whatever ended a run into an error that a person can act on, and write it down."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlops.errors import CouldNotTell, GateFailed, InfrastructureError, Interrupted, MlopsError
from mlops.pipeline.files import write_json, write_text
from mlops.pipeline.results import Answer, StageResult, Status
from mlops.telemetry import mask

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What a machine can refuse whatever the program does; other system errors are taken for defects.
_REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
)
# Object storage clients wrap the error of the operating system into text; nothing else of it is left.
_NO_SPACE_TEXT = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b")


class Defect(MlopsError):  # noqa: N818 - the word of `category`
    """Something that we did not foresee: a defect of this program (or of a stage of another package)."""

    category = "bug"
    exit_code = 3


class DiskFull(InfrastructureError):  # noqa: N818 - says the fact
    """There is no room for what had to be written."""


def as_error(caught: BaseException, *, folder: Path, stage: str = "") -> MlopsError:
    """Return the error to report; a defect's traceback goes to ``traceback.txt`` in the folder, never to
    the user."""
    if _disk_is_full(caught):
        return _full(caught, folder, stage)
    if isinstance(caught, MlopsError):
        return caught
    if isinstance(caught, MemoryError) or (isinstance(caught, OSError) and caught.errno in _REFUSED):
        return _refused(caught, folder, stage)
    if isinstance(caught, KeyboardInterrupt):
        return Interrupted("stopped by a person", remedy="run the same command again to go on", where=stage)
    return _defect(caught, folder, stage)


def error_of(result: StageResult) -> MlopsError | None:
    """Return the error that a failed or inconclusive result stands for, told by the first gate that
    decided; else None."""
    if result.status not in (Status.FAILED, Status.INCONCLUSIVE):
        return None
    kind = GateFailed if result.status is Status.FAILED else CouldNotTell
    answer = Answer(result.status.value)
    for check in result.checks:
        if check.gate and check.answer is answer:
            return kind(
                f"{result.stage}: {check.message}",
                expected=_quantity(check.threshold, check.unit),
                found=_quantity(check.measured, check.unit),
                remedy=check.remedy or f"see .mlops/{result.stage}/ and .mlops/report/index.html",
                where=f"{result.stage}/{check.name}",
            )
    return kind(f"{result.stage}: {result.summary}", remedy=f"see .mlops/{result.stage}/", where=result.stage)


def write_error(folder: Path, error: MlopsError) -> None:
    """Write ``error.json``: category, exit code, headline, what was expected, what was found, the remedy."""
    write_json(folder / "error.json", error.as_record())


def _quantity(value: float | str | None, unit: str) -> str:
    return "" if value is None else f"{value} {unit}".rstrip()


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _disk_is_full(caught: BaseException) -> bool:
    if isinstance(caught, MlopsError) and not isinstance(caught, InfrastructureError):
        return False
    return any(
        (isinstance(link, OSError) and link.errno in _NO_SPACE) or _NO_SPACE_TEXT.search(str(link))
        for link in _chain(caught)
    )


def _full(caught: BaseException, folder: Path, stage: str) -> DiskFull:
    name = next(
        (str(link.filename) for link in _chain(caught) if isinstance(link, OSError) and link.filename), ""
    )
    return DiskFull(
        "the disk is full",
        expected="room for the files of this run",
        found=mask(str(caught)) or "no space left on device",
        remedy="free some space, then run the same command again: finished stages are taken from the cache",
        where=name or stage or str(folder),
    )


def _refused(caught: BaseException, folder: Path, stage: str) -> InfrastructureError:
    name = str(getattr(caught, "filename", None) or stage or folder)
    return InfrastructureError(
        f"this machine refused: {getattr(caught, 'strerror', None) or 'out of memory'}",
        expected="permission, memory and a working disk for the files of this run",
        found=mask(str(caught)) or type(caught).__name__,
        remedy=f"look at {name} and at the memory of this machine, then run the same command again",
        where=name,
    )


def _defect(caught: BaseException, folder: Path, stage: str) -> Defect:
    report = folder / "traceback.txt"
    with suppress(OSError):  # the error itself must reach the user even when its traceback cannot be kept
        write_text(report, "".join(traceback.format_exception(caught)))
    within = f" in stage {stage}" if stage else ""
    return Defect(
        mask(f"a defect{within}: {type(caught).__name__}: {' '.join(str(caught).split())}")[:500],
        expected="an error that says what to do",
        found=type(caught).__name__,
        remedy=f"report it with {report}; nothing is half done, the same command may be run again",
        where=stage,
    )
