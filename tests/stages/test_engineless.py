"""`build` and `scan` without a container engine: visible in the plan, and never counted as done."""

from __future__ import annotations

import pytest

from mlops.pipeline.results import Status
from mlops.pipeline.stage import Never, Stage
from mlops.stages.build import Build
from mlops.stages.scan import Scan
from tests.stages.lab import Lab


@pytest.mark.parametrize("stage", [Build(), Scan()])
def test_the_missing_engine_is_said(lab: Lab, stage: Stage) -> None:
    result = lab.run(stage)
    assert result.status is Status.SKIPPED
    assert result.stage == stage.name
    assert "no container engine in this profile" in result.summary
    assert "no container engine in this profile" in lab.said
    assert lab.inputs(stage) == {}
    assert isinstance(stage.validity(lab.context(stage.name), result), Never)
