"""``register``: the candidate becomes a release, with a version, a card, a signature and ledger events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mlops.canonical import canonical_json, digest_json
from mlops.errors import GateFailed
from mlops.ledger import Ledger
from mlops.ledger.events import Payload, Registered
from mlops.ledger.state import State
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.stage import Context, Never, Validity
from mlops.release import RELEASE_TYPE, Release
from mlops.serving.signatures import signed_release
from mlops.stages.card import model_card
from mlops.stages.package import release_of
from mlops.telemetry import crossing
from mlops.tracking.port import Registration

CARD = "model-card.md"

_DONE = frozenset({Status.PASSED, Status.CACHED})
_AFTER = frozenset({"register", "rollout"})


class Register:
    """Registers once per package and once per release; a repetition finds everything in place."""

    name = "register"
    help = "Register the candidate: MLflow version, model card, lineage, signed release, ledger event."

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return digests of what the card tells from the contract, and of where it is registered."""
        contract = context.contract
        return {
            "contract": digest_json(
                contract.model_dump(mode="json", include={"model", "description", "owner", "data"})
            ),
            "place": digest_json([context.profile.tracking_uri, context.profile.environment]),
        }

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Never: registry and ledger are looked at each time; what is there costs milliseconds."""
        return Never()

    def run(self, context: Context) -> StageResult:
        """Register; GateFailed when a stage that the profile requires has not passed."""
        refuse_incomplete(context)
        unregistered = _release(context, version="")
        card = model_card(context, unregistered)
        (context.output / CARD).write_text(card)
        context.say("registering the version", None)
        version = context.tracker.register(_registration(context, unregistered, card))
        crossing("register.after-version")
        release = _known(context, _release(context, version))
        signed = _keep(context, release)
        crossing("register.after-keep")
        for ledger in (context.build_ledger, context.environment_ledger):
            _record(ledger, release)
        return StageResult(
            stage=self.name,
            status=Status.PASSED,
            summary=f"registered as version {release.version}, release {release.short}",
            checks=(_complete(context), _signature(signed=signed)),
            artifacts={"card": CARD, "release": "release.json"},
            facts={"version": release.version, "release": release.as_record(), "signed": signed},
        )


def refuse_incomplete(context: Context) -> None:
    """Raise GateFailed, naming them all, when required stages are missing, skipped or not passed."""
    lacking = {
        name: _why(context.upstream.get(name))
        for name in context.profile.required_stages
        if name not in _AFTER and not _passed(context.upstream.get(name))
    }
    if not lacking:
        return
    names = ", ".join(lacking)
    raise GateFailed(
        f"The profile {context.profile.name!r} requires {names} before a release",
        expected="passed: "
        + ", ".join(name for name in context.profile.required_stages if name not in _AFTER),
        found="; ".join(f"{name} {why}" for name, why in lacking.items()),
        remedy="Run the whole plan (mlops run) where these stages can run; none is ever waived.",
        where="register",
    )


def _passed(result: StageResult | None) -> bool:
    return result is not None and result.status in _DONE


def _why(result: StageResult | None) -> str:
    if result is None:
        return "has no result"
    return f"is {result.status.value}: {result.summary}"


def _release(context: Context, version: str) -> Release:
    """Return the release with its evidence: a digest of what each stage found, without how long it took."""
    package, train = context.upstream["package"], context.upstream["train"].facts
    bare = release_of(context, package, version)
    return Release(
        model=bare.model,
        version=bare.version,
        package=bare.package,
        contract=bare.contract,
        run_id=str(train["run_id"]),
        commit=str(train["commit"]),
        evidence={name: _evidence(result) for name, result in context.upstream.items()},
    )


def _evidence(result: StageResult) -> str:
    record = json.loads(json.dumps(result.as_record(), default=str))
    return digest_json({name: record[name] for name in ("stage", "checks", "metrics", "facts", "key")})


def _registration(context: Context, release: Release, card: str) -> Registration:
    facts = context.upstream["train"].facts
    return Registration(
        model=release.model,
        run_id=release.run_id,
        package=_package_folder(context),
        package_digest=release.package,
        card=card,
        tags={
            "mlops.release": release.digest,
            "mlops.contract": release.contract,
            "mlops.commit": release.commit,
            "mlops.environment": str(facts["environment_digest"]),
            "mlops.data.train": str(facts["train_digest"]),
            "mlops.data.holdout": str(facts["holdout_digest"]),
        },
    )


def _package_folder(context: Context) -> Path:
    return context.artifact("package", "package")


def _known(context: Context, release: Release) -> Release:
    """Return the release as it was signed or recorded before, by a run that was killed or for another environment.

    Its evidence may differ by then, and one digest has one signed record. SignatureError when a stranger signed it.
    """
    ledgers = (context.environment_ledger, context.build_ledger)
    verifier = context.environment_ledger.verifier
    signed = signed_release(context.store, verifier, release) if verifier is not None else None
    if signed is not None:
        return signed
    records = (ledger.state().releases.get(release.digest) for ledger in ledgers)
    return next((Release.from_record(record) for record in records if record is not None), release)


def _keep(context: Context, release: Release) -> bool:
    """Write the release, and with a key its signed envelope into the store; say whether it is signed."""
    payload = canonical_json(release.as_record())
    (context.output / "release.json").write_bytes(payload)
    signer = context.environment_ledger.signer
    if signer is None:
        return False
    envelope = signer.sign(payload, RELEASE_TYPE)
    context.store.create(release.envelope, canonical_json(envelope))
    return True


def _record(ledger: Ledger, release: Release) -> None:
    def decision(state: State) -> tuple[Payload, str] | None:
        if release.digest in state.releases:
            return None
        return Registered(
            release=release.as_record()
        ), f"version {release.version} passed every required stage"

    ledger.decide(decision)
    crossing(f"register.after-record:{ledger.environment}")


def _complete(context: Context) -> Check:
    required = [name for name in context.profile.required_stages if name not in _AFTER]
    return Check(
        name="required stages",
        answer=Answer.PASSED,
        message=f"all {len(required)} stages that the profile {context.profile.name!r} requires have passed",
        measured=len(required),
        threshold=len(required),
        evidence={"stages": required},
    )


def _signature(*, signed: bool) -> Check:
    return Check(
        name="signature",
        answer=Answer.PASSED if signed else Answer.SKIPPED,
        message="the release is signed" if signed else "no signing key: the release is not signed",
        gate=False,
    )
