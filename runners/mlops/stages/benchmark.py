"""``benchmark``: the packaged model in its real server, against the champion in the same minutes on the same machine.

Machines are noisy, so every gate looks at rounds. A limit is held when the median round holds it, and broken when no round
holds it; in between, the answer is *could not tell*. The comparison is paired: each round gives one ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from mlops.canonical import digest_json
from mlops.pipeline.results import Answer, Check, StageResult, status_of
from mlops.pipeline.stage import Context, Forever, Validity
from mlops.release import Release
from mlops.stages.benchmark_file import write_benchmark_file
from mlops.stages.measuring import Bench, Measured, NotStarted, Server, hardware, measure_in_turns

FILE = "benchmark.json"
_MIB = 1 << 20


class Benchmark:
    """Measures latency, throughput, memory, start and size of candidate and champion."""

    name = "benchmark"
    help = "Measure the packaged model in its real server, as ratios against the champion."
    reads = ("package",)

    def inputs(self, context: Context) -> Mapping[str, str]:
        """Return digests of both packages, the limits, and the hardware."""
        champion = champion_of(context)
        return {
            "package": str(context.fact("package", "package")),
            "champion": champion.digest if champion else "",
            "contract": digest_json(
                {**context.contract.benchmark.model_dump(), "p99_ms": _p99_limit(context)}
            ),
            "hardware": digest_json(hardware()),
        }

    def validity(self, context: Context, result: StageResult) -> Validity:  # noqa: ARG002 - the port's signature
        """Forever: on this hardware, with these packages."""
        return Forever()

    def run(self, context: Context) -> StageResult:
        """Measure both; a candidate that does not start, fails requests, or breaks a limit fails a gate."""
        from mlops.serving.launch import Launcher

        launcher = Launcher(context.store, context.environments, context.profile.home)
        folder = context.profile.home / "work" / context.contract.model / "benchmark"
        with Bench(folder, launcher).open() as bench:
            context.say("starting the candidate", None)
            try:
                candidate = bench.start("candidate", _candidate(context))
            except NotStarted as error:
                return self._result(context, [], (_not_started(error),))
            rival, note = _rival(context, bench)
            settings = context.contract.benchmark
            measured = measure_in_turns(
                [candidate, *([rival] if rival else [])],
                rounds=settings.rounds,
                seconds=settings.seconds,
                concurrency=settings.concurrency,
                say=context.say,
            )
        return self._result(context, measured, _checks(context, measured, note))

    def _result(
        self, context: Context, measured: Sequence[Measured], checks: tuple[Check, ...]
    ) -> StageResult:
        answered = [each for each in measured if each.answers]
        artifacts = {}
        if answered:
            settings = context.contract.benchmark
            write_benchmark_file(
                context.output / FILE,
                answered,
                model=context.contract.model,
                commit=context.commit,
                hardware=hardware(),
                options=settings.model_dump(include={"seconds", "rounds", "concurrency"}),
            )
            artifacts = {"benchmark": FILE}
        facts = {each.name: _facts(each) for each in answered}
        return StageResult(
            stage=self.name,
            status=status_of(checks),
            summary=_summary(facts, checks),
            checks=checks,
            metrics=facts.get("candidate", {}),
            artifacts=artifacts,
            facts={**facts, "ratios": _ratios(facts), "hardware": dict(hardware())},
        )


def champion_of(context: Context) -> Release | None:
    """Return the release that the environment serves, unless it has the candidate's very package."""
    serving = context.environment_ledger.state().serving
    champion = Release.from_record(serving.release) if serving else None
    same = champion is not None and champion.package == context.fact("package", "package")
    return None if same else champion


def _candidate(context: Context) -> Release:
    from mlops.stages.package import release_of

    return release_of(context, context.upstream["package"], version="candidate")


def _rival(context: Context, bench: Bench) -> tuple[Server | None, str]:
    """Start the champion; one that is absent or does not start is no reason to stop, only not to compare."""
    champion = champion_of(context)
    if champion is None:
        return None, "nothing else is served: there is no champion to compare with"
    context.say("starting the champion", None)
    rows = context.artifact("package", "package") / "golden.parquet"
    try:
        return bench.start("champion", champion, rows), ""
    except NotStarted as error:
        return None, f"the champion did not start here: {error.found.splitlines()[-1]}"


def _checks(context: Context, measured: Sequence[Measured], note: str) -> tuple[Check, ...]:
    candidate = measured[0]
    champion = measured[1] if len(measured) > 1 else None
    checks = [_no_failures(candidate)]
    if candidate.complete:
        checks += [_p99(candidate, _p99_limit(context))]
        checks += [_compared(candidate, champion, context.contract.benchmark.slower, note)]
    checks += [_memory(candidate, context.contract.benchmark.memory_mib)]
    return tuple(checks)


def _p99_limit(context: Context) -> float:
    return context.contract.benchmark.p99_ms or context.contract.rollout.objective.latency_ms


def _not_started(error: NotStarted) -> Check:
    return Check(
        name="server starts",
        answer=Answer.FAILED,
        message=f"the packaged model's server did not become ready: {error.found.splitlines()[-1]}",
        remedy="Look at the log: a model that loads but cannot be served often needs a package that is not locked.",
        evidence={"log": error.found},
    )


def _no_failures(candidate: Measured) -> Check:
    total = candidate.answers + candidate.failures
    failed = candidate.failures > 0 or not candidate.complete
    first = f", the first with {candidate.first_error}" if candidate.first_error else ""
    return Check(
        name="no failed request",
        answer=Answer.FAILED if failed else Answer.PASSED,
        message=f"{candidate.failures} of {total} requests failed{first}",
        measured=candidate.failures,
        threshold=0,
        unit="requests",
        remedy="The rows are real ones: predict them with the packaged model and fix what raises."
        if failed
        else "",
    )


def _p99(candidate: Measured, limit_ms: float) -> Check:
    rounds = candidate.per_round_ms(99)
    answer = held(rounds, limit_ms)
    return Check(
        name="p99 latency",
        answer=answer,
        message=f"99 % of the answers within {median(rounds):.1f} ms (limit {limit_ms:g} ms)",
        measured=round(median(rounds), 3),
        threshold=limit_ms,
        unit="ms",
        remedy=_latency_remedy(answer, "benchmark.p99_ms"),
        evidence={"rounds_ms": [round(each, 3) for each in rounds]},
    )


def _compared(candidate: Measured, champion: Measured | None, slower: float, note: str) -> Check:
    if champion is None or not champion.complete:
        found = note or f"the champion left requests unanswered: {champion.first_error if champion else ''}"
        return Check(name="median latency ratio", answer=Answer.SKIPPED, message=found, gate=False)
    pairs = zip(candidate.per_round_ms(50), champion.per_round_ms(50), strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    answer = held(ratios, slower)
    return Check(
        name="median latency ratio",
        answer=answer,
        message=f"the median answer takes {median(ratios):.2f} times the champion's (limit {slower:g})",
        measured=round(median(ratios), 4),
        threshold=slower,
        unit="times",
        remedy=_latency_remedy(answer, "benchmark.slower"),
        evidence={"rounds": [round(each, 4) for each in ratios]},
    )


def held(rounds: Sequence[float], limit: float) -> Answer:
    """Passed when the median round is within the limit, failed when no round is, could not tell in between."""
    if median(rounds) <= limit:
        return Answer.PASSED
    return Answer.FAILED if min(rounds) > limit else Answer.INCONCLUSIVE


def _latency_remedy(answer: Answer, key: str) -> str:
    if answer is Answer.PASSED:
        return ""
    if answer is Answer.INCONCLUSIVE:
        return "Rounds disagree: run it on a quieter machine, or with more `benchmark.rounds`."
    return (
        f"Make the model faster (fewer or smaller trees, no per-row Python), or raise `{key}` with a reason."
    )


def _memory(candidate: Measured, limit_mib: float | None) -> Check:
    used = candidate.memory_bytes / _MIB
    over = limit_mib is not None and used > limit_mib
    limit = f" (limit {limit_mib:g} MiB)" if limit_mib is not None else ""
    return Check(
        name="resident memory",
        answer=Answer.FAILED if over else Answer.PASSED,
        message=f"the server takes {used:.0f} MiB{limit}",
        gate=limit_mib is not None,
        measured=round(used, 1),
        threshold=limit_mib,
        unit="MiB",
        remedy="Make the model smaller, or raise `benchmark.memory_mib` with a reason." if over else "",
    )


def _facts(measured: Measured) -> dict[str, float]:
    figures = {
        "p50_ms": measured.latency_ms(50),
        "p95_ms": measured.latency_ms(95),
        "p99_ms": measured.latency_ms(99),
        "requests_per_second": measured.rate,
        "memory_mib": measured.memory_bytes / _MIB,
        "start_seconds": measured.start_seconds,
        "size_mib": measured.size_bytes / _MIB,
        "failures": float(measured.failures),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _ratios(facts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return candidate / champion per figure; empty without a champion."""
    if {"candidate", "champion"} - set(facts):
        return {}
    ours, theirs = facts["candidate"], facts["champion"]
    return {name: round(ours[name] / theirs[name], 4) for name in ours if theirs[name] > 0}


def _summary(facts: Mapping[str, Any], checks: Sequence[Check]) -> str:
    stopping = [check.message for check in checks if check.gate and check.answer is not Answer.PASSED]
    if stopping:
        return "; ".join(stopping)
    ours = facts["candidate"]
    ratio = _ratios(facts).get("p50_ms")
    against = f", {ratio:.2f} times the champion's median" if ratio else ""
    return (
        f"p50 {ours['p50_ms']:.1f} ms, p99 {ours['p99_ms']:.1f} ms{against}, "
        f"{ours['requests_per_second']:.0f} requests/s, {ours['memory_mib']:.0f} MiB"
    )
