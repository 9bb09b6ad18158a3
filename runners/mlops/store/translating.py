"""Turns the storage library's errors into ours: the class says if a retry helps, the remedy what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlops.errors import InfrastructureError, MlopsError, UserError

_FULL = ("os error 28", "os error 122")
"""ENOSPC and EDQUOT, as the library prints them."""
_FORBIDDEN = ("os error 13", "os error 1)", "os error 30")
"""EACCES, EPERM and EROFS."""


class Unanswered(InfrastructureError):  # noqa: N818 - says the fact
    """The store did not answer: the request may or may not have taken effect."""


@contextmanager
def translated(url: str, path: str, action: str) -> Iterator[None]:
    """Raise one of our errors for the library's; FileNotFoundError passes, the caller knows what it means."""
    from obstore import exceptions

    try:
        yield
    except (FileNotFoundError, exceptions.AlreadyExistsError):
        raise
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise translation(error, url, path, action) from error


def translation(error: Exception, url: str, path: str, action: str) -> MlopsError:
    """Choose the error for what the storage library says."""
    from obstore import exceptions

    code = error.errno if isinstance(error, OSError) else None
    text = str(error) if code is None else f"{error} (os error {code})"
    first_line = text.partition("\n")[0][:400]
    where = f"{url.rstrip('/')}/{path}"
    if any(mark in text for mark in _FULL):
        return InfrastructureError(
            f"the disk is full: could not {action}",
            expected="free space",
            found=first_line,
            remedy=f"free some space under {url} (or raise the quota), then run the same command again",
            where=where,
        )
    forbidden = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)
    if isinstance(error, forbidden) or any(mark in text for mark in _FORBIDDEN):
        return UserError(
            f"not permitted to {action} in the store",
            expected="credentials that may read, list, create and delete there",
            found=first_line,
            remedy="check the profile's store URL and the credentials in the environment",
            where=where,
        )
    return Unanswered(
        f"the store did not {action}",
        expected="an answer from the store",
        found=first_line,
        remedy="check the store's address, the network and the credentials, then run the same command again",
        where=where,
    )


def absent_place(url: str, path: str, error: Exception) -> UserError:
    """Return the error for a bucket, container or folder that does not exist."""
    return UserError(
        "the store's bucket, container or folder does not exist",
        expected=f"{url} exists",
        found=str(error).partition("\n")[0][:400],
        remedy="create it, or correct the profile's store URL",
        where=f"{url.rstrip('/')}/{path}",
    )
