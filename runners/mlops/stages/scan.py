"""``scan``: vulnerabilities, secrets and licences of the image; skipped where no image can be made."""

from __future__ import annotations

from mlops.stages.engineless import Engineless


class Scan(Engineless):
    """Has its place in the plan, after ``package``: nothing may run a model that was not scanned."""

    name = "scan"
    help = "Scan the image of the model; skipped where the profile has no container engine."
    without = "there is no image to scan"
