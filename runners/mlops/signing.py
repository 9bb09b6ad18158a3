"""Signs and verifies events, releases and approvals: DSSE envelopes with ed25519 keys.

The format is the Dead Simple Signing Envelope v1 (https://github.com/secure-systems-lab/dsse) as written by
securesystemslib; the signature covers the payload's exact bytes and its type. The library is imported on
first use: it takes longer than all of ``mlops status`` should.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.errors import MlopsError, UserError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]


class SignatureError(MlopsError):
    """Something is not signed by a key that we trust, or was altered since."""

    category = "integrity"
    exit_code = 1


@dataclass(frozen=True)
class Verifier:
    """Checks envelopes against the public keys that are trusted."""

    _keys: tuple[SSlibKey, ...] = field(repr=False)

    @classmethod
    def trusting(cls, keys: Iterable[str]) -> Verifier:
        """Trust these public keys: PEM texts (``Signer.public_key``) or paths of files with one."""
        return cls(tuple(_public_key(key) for key in keys))

    def verify(self, envelope: Mapping[str, Any], payload_type: str | None = None) -> bytes:
        """Return the payload if a trusted key signed exactly it; with ``payload_type`` also as this type.

        Raises:
            SignatureError: unsigned, signed by another key, altered, of another type, or not an envelope at
            all.
        """
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import VerificationError

        try:
            signed = Envelope.from_dict(deepcopy(dict(envelope)))
            signatures = list(signed.signatures)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _refused("this is not a signed envelope", found=repr(error)[:200]) from error
        if not signatures:
            raise _refused("this is not signed", found="no signature")
        if payload_type is not None and signed.payload_type != payload_type:
            raise _refused(
                "this was signed as something else", found=signed.payload_type, expected=payload_type
            )
        try:
            signed.verify(list(self._keys), 1)
        except (VerificationError, ValueError) as error:
            found = "signed by " + ", ".join(each[:12] for each in signatures)
            trusted = "a signature by " + (
                ", ".join(key.keyid[:12] for key in self._keys) or "a trusted key (none is)"
            )
            raise _refused("no trusted key signed this content", found=found, expected=trusted) from error
        return bytes(signed.payload)


@dataclass(frozen=True)
class Signer:
    """Signs with one private key."""

    _key: CryptoSigner = field(repr=False)

    @classmethod
    def generate(cls) -> Signer:
        """Make a new key that lives in memory only."""
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

        return cls(CryptoSigner.generate_ed25519())

    @classmethod
    def from_pem(cls, pem: bytes) -> Signer:
        """Read an unencrypted PKCS #8 ed25519 key; raises ValueError for anything else."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("not an ed25519 key")  # noqa: TRY004 - a wrong kind of key is a wrong value
        return cls(CryptoSigner(key))

    def sign(self, payload: bytes, payload_type: str) -> dict[str, Any]:
        """Return the DSSE envelope of the payload: ``payload`` (base64), ``payloadType``, ``signatures``."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self._key)
        return dict(envelope.to_dict())

    @property
    def key_id(self) -> str:
        """The key's identifier, 64 hexadecimal digits, as it stands in each signature."""
        return str(self._key.public_key.keyid)

    @property
    def public_key(self) -> str:
        """The public key as PEM text, for :meth:`Verifier.trusting`."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        raw = bytes.fromhex(self._key.public_key.keyval["public"])
        key = Ed25519PublicKey.from_public_bytes(raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def verifier(self) -> Verifier:
        """Return a verifier that trusts this key only."""
        return Verifier.trusting([self.public_key])

    def private_pem(self) -> bytes:
        """Return the private key as unencrypted PKCS #8 PEM, for a file that only its owner may read."""
        return bytes(self._key.private_bytes)


def load_or_create_key(path: Path) -> Signer:
    """Return the key in the file, making it on first use; of several processes at once all get the same key.

    The file is readable by its owner only (0600); one that others may read is refused.

    Raises:
        UserError: the file is not such a key, others may read it, or it cannot be written.
    """
    try:
        if not path.exists():
            _create_key(path)
    except OSError as error:
        raise UserError(
            "the signing key cannot be made",
            expected="a folder that may be written to, with some space left",
            found=str(error),
            remedy=f"check the permissions of {path.parent} and the free space, then run the same command again",
            where=str(path),
        ) from error
    if path.stat().st_mode & 0o077:
        raise UserError(
            "others may read the signing key",
            expected="mode 0600",
            found=f"mode {path.stat().st_mode & 0o777:04o}",
            remedy=f"chmod 600 {path}; if others had access, replace the key",
            where=str(path),
        )
    try:
        return Signer.from_pem(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise UserError(
            "the signing key cannot be read",
            expected="an unencrypted ed25519 key in PEM (PKCS #8)",
            found=str(error)[:200] or type(error).__name__,
            remedy=f"restore {path} from its backup; a new key makes a new ledger necessary",
            where=str(path),
        ) from error


def _create_key(path: Path) -> None:
    """Write a whole key under another name, then link it: the link fails for all but the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(Signer.generate().private_pem())
            stream.flush()
            os.fsync(stream.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        # Another process was first: its key is the key.
        return
    finally:
        draft.unlink(missing_ok=True)


def _public_key(key: str) -> SSlibKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    try:
        text = key if key.lstrip().startswith("-----") else Path(key).read_text()
        public = load_pem_public_key(text.encode())
    except (ValueError, OSError) as error:
        raise _not_a_public_key(str(error)) from error
    if not isinstance(public, Ed25519PublicKey):
        raise _not_a_public_key(type(public).__name__)
    return SSlibKey.from_crypto(public)


def _not_a_public_key(found: str) -> UserError:
    return UserError(
        "a trusted key cannot be read",
        expected="an ed25519 public key in PEM",
        found=found[:200],
        remedy="correct the profile's list of trusted keys",
    )


def _refused(headline: str, *, found: str, expected: str = "a signature by a trusted key") -> SignatureError:
    return SignatureError(
        headline,
        expected=expected,
        found=found,
        remedy="find out who wrote it; add the key to the trusted keys only if its owner is known",
    )
