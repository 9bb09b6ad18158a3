"""The canary judge: two e-processes per metric, valid at every look.

    settings = Settings(alpha=0.01, beta=0.05)
    state = State(metric="errors")
    state = update(state, Interval(1000, 4, 9000, 45, share=0.1, sequence=1), settings)
    judgement = judge({"errors": state}, settings, grant=0.5)

Evidence is not reset when the share of traffic changes: every interval brings its own share, and events that
both sides suffer cancel. The state is a few dozen numbers; it survives a restart as JSON, and an interval
that is delivered twice counts once.

Sources: Ville 1939; Vovk & Wang 2021, "E-values: calibration, combination and applications"; Lindon & Malek
2022, "Anytime-valid inference for multinomial count data"; the forms themselves and their proofs are in
:mod:`mlops.decide.eprocess`.
"""

from __future__ import annotations

from mlops.decide.evidence import Interval, Limits, Settings, State, update
from mlops.decide.forecasts import Nearing
from mlops.decide.verdicts import Judgement, Verdict, judge

__all__ = ["Interval", "Judgement", "Limits", "Nearing", "Settings", "State", "Verdict", "judge", "update"]
