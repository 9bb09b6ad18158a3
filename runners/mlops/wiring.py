"""The one place that puts profile, store, ledger, platform, tracker and engine together.

Everything is made on first use: ``mlops status`` opens a store and reads files, and imports nothing else.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlops import plugins
from mlops.errors import InfrastructureError
from mlops.ledger import Author, Ledger, StoreHeads
from mlops.profile import Profile, load_profile
from mlops.rollout.engine import Engine
from mlops.store import Store, open_store

if TYPE_CHECKING:
    from mlops.contract import Contract
    from mlops.environments.port import Environments
    from mlops.ledger.state import State
    from mlops.pipeline.lookup import MakeContext
    from mlops.platforms.port import Platform
    from mlops.release import Release
    from mlops.serving.launch import Launcher, ServerCommand
    from mlops.signing import Signer, Verifier
    from mlops.tracking.port import Tracker
    from mlops.tracking.server import EmbeddedServer

BUILD = "build"
"""The ledger of what was made, beside those of the environments that it is released to."""


_GRACE_SECONDS = 5.0
"""What a process that only sends requests gets to end by itself."""


class Later:
    """Stands for an object that is made when it is first asked for something."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it stands for
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)


@dataclass(frozen=True)
class House:
    """Everything of one profile, ready to be used."""

    profile: Profile
    commit: str = ""

    @cached_property
    def store(self) -> Store:
        """The object storage of ledger, cache and artifacts."""
        return open_store(self.profile.store_url)

    @cached_property
    def signer(self) -> Signer:
        """The key that signs; made on first use."""
        from mlops.signing import load_or_create_key

        return load_or_create_key(self.profile.signing_key or self.profile.home / "keys" / "signing.pem")

    @cached_property
    def verifier(self) -> Verifier:
        """Whose signatures count."""
        from mlops.signing import Verifier

        others = [path.read_text() for path in self.profile.trusted_keys]
        return Verifier.trusting([self.signer.public_key, *others])

    @cached_property
    def environments(self) -> Environments:
        """The models' own Pythons."""
        from mlops.environments.uv import UvEnvironments

        return UvEnvironments(self.profile.home)

    @cached_property
    def launcher(self) -> Launcher:
        """Brings packaged models to this machine and runs them."""
        from mlops.serving.launch import Launcher

        return Launcher(self.store, self.environments, self.profile.home, self.verifier)

    @cached_property
    def server(self) -> EmbeddedServer:
        """The laptop's own MLflow."""
        from mlops.tracking.server import EmbeddedServer

        return EmbeddedServer(self.profile.home)

    @cached_property
    def tracker(self) -> Tracker:
        """The tracking server; the embedded one is started on first use where the profile names none."""
        from mlops.tracking.mlflow import MlflowTracker

        return cast(
            "Tracker", Later(lambda: MlflowTracker(self.profile.tracking_uri or self.server.ensure()))
        )

    def warm_up(self) -> None:
        """Start the embedded MLflow in the background, while the first stages run; its errors show when it is used."""
        if not self.profile.tracking_uri:
            threading.Thread(target=_quietly(self.server.ensure), daemon=True).start()

    def tracking_address(self) -> str | None:
        """Where the MLflow UI is, None while the embedded server is down."""
        return self.profile.tracking_uri or self.server.uri()

    def ledger(self, model: str, environment: str | None = None) -> Ledger:
        """Open the ledger of a model in an environment."""
        return Ledger(
            self.store,
            model,
            environment or self.profile.environment,
            self.signer,
            self.verifier,
            StoreHeads(open_store(self.profile.heads_url)),
            Author(_actor(), build=os.environ.get("BUILD_URL", ""), commit=self.commit),
        )

    def platform(
        self,
        model: str,
        environment: str | None = None,
        **options: Any,  # noqa: ANN401 - the platform's own
    ) -> Platform:
        """Open the rollout platform of a model in an environment.

        Every platform is made from the same keywords: ``home``, ``launch``, ``port`` and, where a contract is at hand,
        ``bounds_ms`` and ``drain_seconds``.
        """
        make = plugins.load(plugins.PLATFORMS, self.profile.platform, where="profile: platform")
        home = self.profile.home / "platform" / model / (environment or self.profile.environment)

        def launch(release: Release, port: int) -> ServerCommand:
            # Only a deployment needs the launcher; a rollback must not wait for its import.
            return self.launcher.command(release, port)

        return cast("Platform", make(home, launch=launch, port=self.profile.port, **options))

    def end_traffic(self, model: str, environment: str | None = None) -> None:
        """End what is replayed to the model's users' address; nothing when nothing is."""
        from mlops.processes import end

        place = environment or self.profile.environment
        end(self.profile.home / "traffic" / f"{model}.{place}.json", _GRACE_SECONDS)

    def engine(self, model: str, environment: str | None = None) -> Engine:
        """Open the rollout engine of a model in an environment."""
        ledger = self.ledger(model, environment)
        state = ledger.state()
        return Engine(ledger, self.platform(model, environment, **_options(state)), self.store)

    def mirror(self, model: str, environment: str | None = None) -> None:
        """Make the registry's aliases and tags equal to the ledger.

        InfrastructureError while the registry is down.
        """
        environment = environment or self.profile.environment
        state = self.ledger(model, environment).state()
        serving = str(state.serving.release["version"]) if state.serving else None
        self.tracker.mirror(
            model,
            {environment: serving},
            {
                f"mlops.{environment}.ledger_sequence": str(state.sequence),
                f"mlops.{environment}.ledger_head": state.head,
            },
        )

    def mirror_if_up(self, model: str) -> str:
        """Mirror when the registry answers; return why not otherwise. The next command mirrors again."""
        if self.tracking_address() is None:
            return "MLflow is not running here"
        try:
            self.mirror(model)
        except InfrastructureError as error:
            return error.headline
        return ""

    def contexts(self, contract: Contract, workspace: Path, *, again: bool = False) -> MakeContext:
        """Return what makes a stage's context from what the frame adds."""
        from functools import partial

        from mlops.pipeline.stage import Context

        environment_ledger = self.ledger(contract.model)
        platform = self.platform(
            contract.model,
            bounds_ms=(contract.rollout.objective.latency_ms,),
            drain_seconds=contract.serve.drain_seconds,
        )
        return partial(
            Context,
            contract=contract,
            profile=self.profile,
            workspace=workspace,
            store=self.store,
            build_ledger=self.ledger(contract.model, BUILD),
            environment_ledger=environment_ledger,
            tracker=self.tracker,
            environments=self.environments,
            engine=Engine(environment_ledger, platform, self.store),
            commit=self.commit,
            again=again,
        )


def open_house(workspace: Path | None = None) -> House:
    """Read the profile and make the house; the commit is that of the workspace."""
    return House(load_profile(), commit=_commit(workspace) if workspace else "")


def _options(state: State) -> Mapping[str, Any]:
    """Return what the last rollout's settings say about counting latency."""
    settings = state.rollout.settings if state.rollout else {}
    objective = settings.get("objective", {}).get("latency_ms")
    return {"bounds_ms": (float(objective),)} if objective else {}


def _actor() -> str:
    import getpass

    try:
        return os.environ.get("BUILD_USER_ID") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _commit(workspace: Path) -> str:
    """Return the commit of the repo, empty outside git or without git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(workspace), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _quietly(act: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            act()
        except InfrastructureError:
            return  # whoever needs it next gets the same error, where it can be shown

    return run
