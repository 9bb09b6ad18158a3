"""The order in which the platform is made equal to the ledger, and what a failure in it may hurt."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.errors import InfrastructureError, UserError
from mlops.platforms.port import Deployment
from tests.rollout.conftest import World


class Choosy:
    """The platform, on which one version cannot be deployed, or only slowly."""

    def __init__(
        self, world: World, version: str, error: Exception | None = None, seconds: float = 0
    ) -> None:
        self._world, self._version, self._error, self._seconds = world, version, error, seconds
        self.served_while_slow: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.platform, name)

    def deploy(self, deployment: Deployment) -> None:
        if deployment.release.version == self._version:
            self.served_while_slow = dict(self._world.platform.look().weights)
            self._world.platform.sleep(self._seconds)
            if self._error is not None:
                raise self._error
        self._world.platform.deploy(deployment)


ERRORS = [
    InfrastructureError("the store is down", remedy="wait"),
    UserError("Python 3.10 is not installed on this machine", remedy="install it"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_warm_release_that_cannot_be_deployed_keeps_nothing_else_down(
    served: World, error: Exception
) -> None:
    served.roll_out(2)
    served.settle()
    served.platform.stop()
    served.an_engine(Choosy(served, "1", error)).advance()
    assert list(served.platform.look().lanes) == ["green"]
    assert served.platform.look().weights == {"green": 1.0}


@pytest.mark.parametrize("error", ERRORS)
def test_a_candidate_that_cannot_be_deployed_keeps_nothing_else_down(served: World, error: Exception) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    served.platform.stop()
    served.an_engine(Choosy(served, "2", error)).advance()
    assert list(served.platform.look().lanes) == ["blue"]
    assert served.platform.look().weights == {"blue": 1.0}


def test_what_serves_has_its_traffic_before_the_others_are_installed(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    served.platform.stop()
    slow = Choosy(served, "2", seconds=300)
    served.an_engine(slow).advance()
    assert slow.served_while_slow == {"blue": 1.0}


def test_a_first_release_is_deployed_before_it_gets_its_traffic(world: World) -> None:
    world.begin(1)
    world.until(lambda outcome: outcome.weight == 1.0)
    world.platform.stop()
    assert "starts" in world.engine.advance().sentence
    assert [call[0] for call in world.platform.look().calls[-2:]] == ["deploy", "split"]
