"""``build``: the image of the model. It needs a container engine, which a laptop's profile lacks."""

from __future__ import annotations

from mlops.stages.engineless import Engineless


class Build(Engineless):
    """Has its place in the plan, between ``validate`` and ``test``."""

    name = "build"
    help = "Build the image of the model; skipped where the profile has no container engine."
    without = "the release is the package, without an image"
