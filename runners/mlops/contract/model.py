"""The contract ``mlops.yaml``: what a model is and what it must satisfy, never where it runs.

Five lines are enough (``model``, ``data``, ``target``, ``train``, ``metric``); everything else has a default with a reason.
Field descriptions are what editors show: they are exported to ``resources/mlops/contract.schema.json``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$")]
RelativePath = Annotated[str, Field(min_length=1, pattern=r"^(?!/)(?!.*(^|/)\.\.(/|$)).+$")]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, le=100)]


class Section(BaseModel):
    """A part of the contract: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the rows are, and what their columns mean."""

    train: RelativePath = Field(description="Training rows: Parquet or CSV file, relative to the contract.")
    holdout: RelativePath | None = Field(
        None,
        description="Rows that training never sees. Without it, the last fifth of `train` (by `time`, else by a hash of the row) is held out.",
    )
    holdout_fraction: Annotated[float, Field(gt=0, lt=0.9)] = Field(
        0.2, description="Share of `train` that is held out when there is no `holdout` file."
    )
    replay: RelativePath | None = Field(
        None,
        description="Rows that are replayed as traffic during a rollout on a laptop; the holdout by default.",
    )
    schema_: str | None = Field(
        None,
        alias="schema",
        pattern=r"^[^:]+\.py:[A-Za-z_]\w*$",
        description="The pandera schema, as `file.py:name`. Inferred and shown when absent.",
    )
    id: str | None = Field(None, description="Column that names a row; must be unique, is not a feature.")
    time: str | None = Field(None, description="Column with the time of a row; holdout must come after train.")
    entity: str | None = Field(None, description="Column of the cluster that rows belong to (customer, plane).")
    ignore: tuple[str, ...] = Field((), description="Columns that are neither features nor target.")


class Environment(Section):
    """The model's own Python: the runner never imports model code."""

    python: Annotated[str, Field(pattern=r"^3\.\d{1,2}$")] | None = Field(
        None, description="Python version of the model, such as `3.11`; the runner's by default. 3.9 or later."
    )
    lock: RelativePath | None = Field(
        None,
        description="Locked requirements. By default `requirements.lock`, `requirements.txt`, or `pyproject.toml`, the first that exists.",
    )


class Test(Section):
    """The repo's own tests."""

    __test__ = False  # not a test class for pytest

    command: str = Field("python -m pytest tests", description="Command that runs the repo's tests.")
    required: bool = Field(True, description="Whether a repo without tests is refused.")
    timeout: Seconds = Field(900, description="Seconds after which the tests are stopped.")


class Train(Section):
    """How a candidate is trained: any command, or an MLproject entry point."""

    command: str | None = Field(
        None, description="Command, run in the model's Python, in a copy of the repo without the holdout."
    )
    entry_point: str | None = Field(None, description="Entry point of the repo's `MLproject`, such as `main`.")
    parameters: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Parameters of the entry point, as `mlflow run -P key=value`."
    )
    model: str | None = Field(
        None, description="Name under which the training logs its model, when it logs more than one."
    )
    timeout: Seconds = Field(4 * 3600, description="Seconds after which training is stopped.")

    @model_validator(mode="after")
    def _one_way(self) -> Train:
        if (self.command is None) == (self.entry_point is None):
            raise ValueError("give exactly one of `command` and `entry_point`")
        if self.parameters and self.entry_point is None:
            raise ValueError("`parameters` belong to an `entry_point`")
        return self


MetricName = Literal["auc", "log_loss", "brier", "accuracy", "f1", "mae", "rmse"]


class Slice(Section):
    """A part of the holdout that must not get worse: each value of a column, or each quantile bin of a numeric one."""

    column: str = Field(description="Column whose values make the slices.")
    bins: Annotated[int, Field(ge=2, le=20)] | None = Field(
        None, description="Quantile bins for a numeric column; every distinct value without it."
    )
    margin: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Loss allowed in a slice; three times the metric's margin by default."
    )


class Metric(Section):
    """What `better` means, and how much worse is still as good."""

    name: MetricName = Field(description="The metric that decides.")
    margin: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Non-inferiority margin in the metric's own unit; by default 0.01 for metrics in [0, 1], 2 % of the champion's value for others.",
    )
    floor: float | None = Field(None, description="The value that a candidate must reach, champion or not.")
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.05, description="Error rate of the gate over all uses of one holdout."
    )
    minimum_rows: Annotated[int, Field(ge=30)] = Field(
        200, description="Fewer holdout rows than this is `could not tell`."
    )
    slices: tuple[Slice, ...] = Field((), description="Slices that must not get worse.")


class Benchmark(Section):
    """What the packaged model must do in its real server."""

    seconds: Annotated[float, Field(ge=1, le=600)] = Field(4, description="Seconds of load per model and round.")
    rounds: Annotated[int, Field(ge=2, le=20)] = Field(
        3, description="Rounds; candidate and champion alternate in each."
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(4, description="Requests in flight.")
    p99_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The 99th percentile of the latency must not exceed this; the rollout's latency objective by default."
    )
    slower: Annotated[float, Field(gt=1)] = Field(
        2.0, description="Refused when the candidate's median latency is this many times the champion's."
    )
    memory_mib: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Resident memory of the server that must not be exceeded, in MiB."
    )


class Objective(Section):
    """What users are promised, whatever the stable release does."""

    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.01, description="Share of requests that may be answered with an error."
    )
    latency_ms: Annotated[float, Field(gt=0)] = Field(
        1000, description="Latency that 99 % of the requests must not exceed, in milliseconds."
    )


class Rollout(Section):
    """How an environment moves from one release to the next."""

    strategy: str = Field("canary", description="`canary`, `blue-green` or `rolling`.")
    steps: tuple[Percent, ...] = Field(
        (10, 50, 100), description="Traffic share of the candidate at each step, in percent, ascending to 100."
    )
    objective: Objective = Field(default_factory=lambda: Objective())
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.01, description="Probability of rolling back a healthy candidate."
    )
    beta: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.05, description="Probability of promoting a candidate that is twice as bad."
    )
    deadline: Seconds = Field(3600, description="Seconds after which an undecided rollout ends as `could not tell`.")
    rollback_window: Seconds = Field(
        86400, description="Seconds that the previous release is kept warm after a promotion."
    )
    replicas: Annotated[int, Field(ge=1, le=100)] = Field(1, description="Server processes or pods per slot.")

    @model_validator(mode="after")
    def _ascending(self) -> Rollout:
        if not self.steps or self.steps[-1] != 100 or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("`steps` must ascend and end at 100")
        return self


class Serve(Section):
    """How the packaged model is served."""

    drain_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        20, description="Seconds that requests in flight are given when a server ends."
    )
    batch_rows: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Rows of waiting requests that are predicted together at the most."
    )


def _data(value: Any) -> Any:
    return {"train": value} if isinstance(value, str) else value


def _train(value: Any) -> Any:
    return {"command": value} if isinstance(value, str) else value


def _metric(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Contract(Section):
    """The whole contract, defaults filled in."""

    model: ModelName = Field(description="Name of the model: lower-case letters, digits and dashes.")
    data: Annotated[Data, BeforeValidator(_data, json_schema_input_type=str | Data)] = Field(
        description="The data; a single path is short for `train`."
    )
    target: str = Field(description="Column that is predicted.")
    task: Literal["classification", "regression"] | None = Field(
        None, description="Inferred from the metric when absent."
    )
    train: Annotated[Train, BeforeValidator(_train, json_schema_input_type=str | Train)] = Field(
        description="The training; a single string is short for `command`."
    )
    metric: Annotated[Metric, BeforeValidator(_metric, json_schema_input_type=MetricName | Metric)] = Field(
        description="The metric that decides; a single name is short for `name`."
    )
    description: str = Field("", description="What the model is for; shown on the model card.")
    owner: str = Field("", description="Who answers for the model: a person or a team, with an address.")
    environment: Environment = Field(default_factory=lambda: Environment())
    test: Test = Field(default_factory=lambda: Test())
    benchmark: Benchmark = Field(default_factory=lambda: Benchmark())
    serve: Serve = Field(default_factory=lambda: Serve())
    rollout: Rollout = Field(default_factory=lambda: Rollout())

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """The task, given or inferred from the metric."""
        if self.task is not None:
            return self.task
        return "regression" if self.metric.name in {"mae", "rmse"} else "classification"
