"""Reads what was signed of a release: a server is started only from exactly that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlops.release import RELEASE_TYPE, Release
from mlops.signing import SignatureError
from mlops.store import Store

if TYPE_CHECKING:
    from mlops.signing import Verifier


def signed_release(store: Store, verifier: Verifier, release: Release) -> Release | None:
    """Return the release of this digest as a trusted key has signed it; None when nobody has.

    Raises:
        SignatureError: what is there is no envelope, was altered, or is signed by another key or as something else.
    """
    content = store.get(release.envelope)
    if content is None:
        return None
    try:
        payload = verifier.verify(json.loads(content), RELEASE_TYPE)
        signed = Release.from_record(json.loads(payload))
    except SignatureError as error:
        raise _refused(store, release, error.headline, error.found, error.expected) from error
    except (ValueError, TypeError) as error:
        raise _refused(store, release, "the file is not a signed release", str(error)[:200]) from error
    if signed.digest != release.digest:
        raise _refused(store, release, "the signature is of another release", f"release {signed.short}")
    return signed


def refuse_unsigned(store: Store, verifier: Verifier, release: Release) -> None:
    """Raise SignatureError unless a trusted key has signed exactly this release, its version and evidence included."""
    signed = signed_release(store, verifier, release)
    if signed is None:
        raise SignatureError(
            f"The {_named(release)} is not signed, so it is not started",
            expected="the envelope that the stage `register` writes",
            found="nothing",
            remedy="run `mlops run` where the release was registered, which signs it again",
            where=_place(store, release),
        )
    ours, theirs = release.as_record(), signed.as_record()
    if ours != theirs:
        names = ", ".join(name for name in ours if ours[name] != theirs[name])
        raise _refused(store, release, "other things were signed than are asked for", f"different: {names}")


def _refused(
    store: Store,
    release: Release,
    why: str,
    found: str,
    expected: str = "the release, signed by a trusted key",
) -> SignatureError:
    return SignatureError(
        f"The signature of {_named(release)} does not hold: {why}",
        expected=expected,
        found=found,
        remedy="find out who wrote this file; trust the key (profile: trusted_keys) only if its owner is known, else"
        " delete the file and run `mlops run`, which signs the release again",
        where=_place(store, release),
    )


def _named(release: Release) -> str:
    return f"release {release.short} ({release.model} version {release.version})"


def _place(store: Store, release: Release) -> str:
    return f"{store.url.rstrip('/')}/{release.envelope}"
