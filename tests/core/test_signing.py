"""Signing: what was signed is accepted, anything else is refused; one key for all processes."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode, b64encode
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.errors import UserError
from mlops.signing import SignatureError, Signer, Verifier, load_or_create_key
from tests.core.conftest import environment, finished, start

KEY = Signer.generate()
VERIFIER = KEY.verifier()


@given(st.binary(max_size=200), st.text(max_size=30))
@settings(deadline=None)
def test_what_was_signed_comes_back(payload: bytes, kind: str) -> None:
    envelope = KEY.sign(payload, kind)
    assert VERIFIER.verify(envelope) == payload
    assert VERIFIER.verify(envelope, kind) == payload
    assert envelope["payloadType"] == kind
    assert set(envelope) == {"payload", "payloadType", "signatures"}


@given(st.binary(min_size=1, max_size=60), st.data())
@settings(deadline=None)
def test_a_flipped_bit_is_refused(payload: bytes, data: st.DataObject) -> None:
    envelope = KEY.sign(payload, "t")
    where = data.draw(st.sampled_from(["payload", "sig"]))
    holder = envelope if where == "payload" else envelope["signatures"][0]
    raw = bytearray(b64decode(holder[where]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    holder[where] = b64encode(bytes(raw)).decode()
    with pytest.raises(SignatureError):
        VERIFIER.verify(envelope)


def test_the_type_is_signed_too() -> None:
    envelope = KEY.sign(b"x", "event")
    with pytest.raises(SignatureError, match="no trusted key"):
        VERIFIER.verify({**envelope, "payloadType": "approval"})
    with pytest.raises(SignatureError, match="signed as something else") as refused:
        VERIFIER.verify(envelope, "approval")
    assert (refused.value.found, refused.value.expected) == ("event", "approval")


def test_a_key_that_is_not_trusted_is_refused() -> None:
    stranger = Signer.generate()
    with pytest.raises(SignatureError, match="no trusted key signed this content") as refused:
        VERIFIER.verify(stranger.sign(b"x", "t"))
    assert stranger.key_id[:12] in refused.value.found
    assert KEY.key_id[:12] in refused.value.expected
    assert refused.value.exit_code == 1
    assert refused.value.category == "integrity"


def test_a_stranger_cannot_borrow_a_trusted_keys_name() -> None:
    envelope = Signer.generate().sign(b"x", "t")
    envelope["signatures"][0]["keyid"] = KEY.key_id
    with pytest.raises(SignatureError):
        VERIFIER.verify(envelope)


def test_one_trusted_key_of_several_is_enough() -> None:
    other = Signer.generate()
    both = Verifier.trusting([KEY.public_key, other.public_key])
    assert both.verify(other.sign(b"x", "t")) == b"x"
    assert both.verify(KEY.sign(b"x", "t")) == b"x"
    with pytest.raises(SignatureError):
        both.verify(Signer.generate().sign(b"x", "t"))


def test_who_trusts_nobody_accepts_nothing() -> None:
    with pytest.raises(SignatureError):
        Verifier.trusting([]).verify(KEY.sign(b"x", "t"))


def test_unsigned_is_refused() -> None:
    with pytest.raises(SignatureError, match="not signed"):
        VERIFIER.verify({**KEY.sign(b"x", "t"), "signatures": []})


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"payload": "eA==", "payloadType": "t"},
        {"payload": "eA==", "signatures": []},
        {"payload": "!", "payloadType": "t", "signatures": []},
        {"payload": 1, "payloadType": "t", "signatures": [{}]},
        {"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "x"}]},
        {"payload": "eA==", "payloadType": "t", "signatures": "abc"},
        {"payload": "eA==", "payloadType": "t", "signatures": [{"keyid": "x", "sig": "eA=="}] * 2},
    ],
)
def test_what_is_no_envelope_is_refused(envelope: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        VERIFIER.verify(envelope)


def test_verifying_leaves_the_envelope_as_it_was() -> None:
    envelope = KEY.sign(b"x", "t")
    before = deepcopy(envelope)
    VERIFIER.verify(envelope)
    VERIFIER.verify(envelope)
    assert envelope == before


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing"
    first = load_or_create_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["signing"], "no draft stays behind"
    assert load_or_create_key(path).key_id == first.key_id
    assert first.verifier().verify(load_or_create_key(path).sign(b"x", "t")) == b"x"


def test_processes_at_once_agree_on_the_key(tmp_path: Path) -> None:
    go = tmp_path / "go"
    makers = [start("key", {"path": f"{tmp_path}/key", "go": str(go)}) for _ in range(6)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    go.touch()
    assert len({finished(maker)[-1] for maker in makers}) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["go", "key"]


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(UserError, match="others may read the signing key") as refused:
        load_or_create_key(tmp_path / "key")
    assert refused.value.found == "mode 0640"
    assert "chmod 600" in refused.value.remedy


def test_a_key_that_cannot_be_written_is_the_users_to_correct(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="signing key cannot be made") as refused:
        load_or_create_key(tmp_path / "file" / "key")
    assert "permissions" in refused.value.remedy


def other_kind_of_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", [b"", b"not a key", other_kind_of_key()])
def test_a_file_that_is_no_key_is_the_users_to_correct(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(UserError, match="signing key cannot be read"):
        load_or_create_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == content, "it is never replaced"


def test_public_keys_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(KEY.public_key)
    assert Verifier.trusting([str(tmp_path / "key.pub")]).verify(KEY.sign(b"x", "t")) == b"x"


@pytest.mark.parametrize("text", ["-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n", "rsa"])
def test_a_public_key_that_cannot_be_read_is_the_users_to_correct(text: str) -> None:
    if text == "rsa":
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = X25519PrivateKey.generate().public_key()
        text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(UserError, match="trusted key cannot be read"):
        Verifier.trusting([text])


def test_a_public_key_file_that_is_absent_is_the_users_to_correct(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trusted key cannot be read"):
        Verifier.trusting([str(tmp_path / "none.pub")])


def test_a_signer_shows_no_secret() -> None:
    assert "PRIVATE" not in repr(KEY)
    assert KEY.private_pem().decode() not in repr(KEY)
    assert repr(KEY) == "Signer()"


def test_importing_is_light() -> None:
    code = "import mlops.signing, sys; print([m for m in sys.modules if m.split('.')[0] in ('securesystemslib', 'cryptography')])"
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert out.stdout == "[]\n"
