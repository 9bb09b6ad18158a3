"""The contract ``mlops.yaml``: what a model is and what it must satisfy, never where it runs.

Five lines are enough (``model``, ``data``, ``target``, ``train``, ``metric``); everything else has a default
with a reason. Field descriptions are what editors show: they are exported to
``resources/mlops/contract.schema.json``.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mlops.documents.schemas import PATTERN_WORDS

_OUTSIDE = r"(^|/)\.\.(/|$)"


def _inside(path: str) -> str:
    if re.search(_OUTSIDE, path):
        raise ValueError("a path must stay inside the repo, without `..`")
    return path


ModelName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$",
        json_schema_extra={
            PATTERN_WORDS: "1 to 53 lower-case letters, digits and dashes, no dash at either end"
        },
    ),
]
RelativePath = Annotated[
    str,
    Field(
        pattern=r"^[^/\\~]([^\\]*)$",
        json_schema_extra={
            PATTERN_WORDS: "a path inside the repo, with `/`, relative to the contract",
            "not": {"pattern": _OUTSIDE},
        },
    ),
    AfterValidator(_inside),
]
SchemaReference = Annotated[
    str,
    Field(
        pattern=r"^[^/\\:~][^\\:]*\.py:[A-Za-z_]\w*$",
        json_schema_extra={
            PATTERN_WORDS: "`file.py:name`, a Python file inside the repo and the name of the schema in it",
            "not": {"pattern": _OUTSIDE},
        },
    ),
    AfterValidator(_inside),
]
PythonVersion = Annotated[
    str,
    Field(
        pattern=r"^3\.(9|[1-9][0-9])$",
        json_schema_extra={PATTERN_WORDS: 'a Python version in quotes, "3.9" or later, such as "3.11"'},
    ),
]
# Strict: `true` is not the number 1, and "5" is not the number 5.
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[Number, Field(gt=0)]
Percent = Annotated[Number, Field(gt=0, le=100)]


class Section(BaseModel):
    """A part of the contract: frozen, unknown keys refused, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """Where the rows are, and what their columns mean."""

    train: RelativePath = Field(description="Training rows: Parquet or CSV file, relative to the contract.")
    holdout: RelativePath | None = Field(
        default=None,
        description="Rows that training never sees. Without it, the last fifth of `train` (by `time`, else by"
        " a hash of the `entity`, else of the row) is held out.",
    )
    holdout_fraction: Annotated[Number, Field(gt=0, lt=0.9)] = Field(
        default=0.2, description="Share of `train` that is held out when there is no `holdout` file."
    )
    replay: RelativePath | None = Field(
        default=None,
        description="Rows that are replayed as traffic during a rollout on a laptop; the holdout by default.",
    )
    schema_: SchemaReference | None = Field(
        default=None,
        alias="schema",
        description="The pandera schema, as `file.py:name`. Inferred and shown when absent.",
    )
    id: Text | None = Field(
        default=None, description="Column that names a row; must be unique, is not a feature."
    )
    time: Text | None = Field(
        default=None,
        description="Column with the time of a row; the holdout comes after `train`.",
    )
    entity: Text | None = Field(
        default=None, description="Column of the cluster that rows belong to (customer, plane)."
    )
    ignore: tuple[Text, ...] = Field(default=(), description="Columns that are neither features nor target.")
    confirmed: tuple[Text, ...] = Field(
        default=(),
        description="Features that predict the target almost perfectly on their own, and that somebody has"
        " confirmed to be known before the prediction is made.",
    )

    @model_validator(mode="after")
    def _two_files(self) -> Data:
        if self.holdout == self.train:
            raise ValueError("`holdout` must be another file than `train`")
        return self


class Environment(Section):
    """The model's own Python: the runner never imports model code."""

    python: PythonVersion | None = Field(
        default=None,
        description='Python version of the model in quotes, such as "3.11"; the runner\'s by default.',
    )
    lock: RelativePath | None = Field(
        default=None,
        description="Locked requirements. By default `requirements.lock`, `requirements.txt`, or"
        " `pyproject.toml`, the first that exists.",
    )


class Test(Section):
    """The repo's own tests."""

    __test__ = False  # not a test class for pytest

    command: Text = Field(default="python -m pytest tests", description="Command that runs the repo's tests.")
    required: Switch = Field(
        default=False,
        description="Whether a repo without tests is refused; else the stage is skipped, which a profile may refuse.",
    )
    timeout: Seconds = Field(default=900, description="Seconds after which the tests are stopped.")


class Train(Section):
    """How a candidate is trained: any command, or an MLproject entry point."""

    command: Text | None = Field(
        default=None,
        description="Command, run in the model's Python, in a copy of the repo without the holdout.",
    )
    entry_point: Text | None = Field(
        default=None, description="Entry point of the repo's `MLproject`, such as `main`."
    )
    parameters: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Parameters of the entry point, as `mlflow run -P key=value`."
    )
    model: Text | None = Field(
        default=None, description="Name under which the training logs its model, when it logs more than one."
    )
    timeout: Seconds = Field(default=4 * 3600, description="Seconds after which training is stopped.")

    @model_validator(mode="after")
    def _one_way(self) -> Train:
        if (self.command is None) == (self.entry_point is None):
            raise ValueError("`train` needs exactly one of `command` and `entry_point`")
        if self.parameters and self.entry_point is None:
            raise ValueError("`train.parameters` belong to an `entry_point`")
        return self


MetricName = Literal["auc", "log_loss", "brier", "accuracy", "f1", "mae", "rmse"]
REGRESSION_METRICS = frozenset({"mae", "rmse"})


class Slice(Section):
    """A part of the holdout that must not get worse: each value of a column, or each bin of a numeric one."""

    column: Text = Field(description="Column whose values make the slices.")
    bins: Annotated[Whole, Field(ge=2, le=20)] | None = Field(
        default=None, description="Quantile bins for a numeric column; every distinct value without it."
    )
    margin: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Loss allowed in a slice; three times the metric's margin by default."
    )


class Metric(Section):
    """What `better` means, and how much worse is still as good."""

    name: MetricName = Field(description="The metric that decides.")
    margin: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="Non-inferiority margin in the metric's own unit; by default 0.01 for metrics in [0, 1],"
        " 2 % of the champion's value for others.",
    )
    floor: Number | None = Field(
        default=None, description="The value that a candidate must reach, champion or not."
    )
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="Error rate of the gate over all uses of one holdout."
    )
    minimum_rows: Annotated[Whole, Field(ge=30)] = Field(
        default=200, description="Fewer holdout rows than this is `could not tell`."
    )
    slices: tuple[Slice, ...] = Field(default=(), description="Slices that must not get worse.")


class Benchmark(Section):
    """What the packaged model must do in its real server."""

    seconds: Annotated[Number, Field(ge=1, le=600)] = Field(
        default=4, description="Seconds of load per model and round."
    )
    rounds: Annotated[Whole, Field(ge=2, le=20)] = Field(
        default=3, description="Rounds; candidate and champion alternate in each."
    )
    concurrency: Annotated[Whole, Field(ge=1, le=256)] = Field(default=4, description="Requests in flight.")
    p99_ms: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="The 99th percentile of the latency must not exceed this; the rollout's latency objective"
        " by default.",
    )
    slower: Annotated[Number, Field(gt=1)] = Field(
        default=2.0,
        description="Refused when the candidate's median latency is this many times the champion's.",
    )
    memory_mib: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="Resident memory of the server that must not be exceeded, in MiB."
    )


class Objective(Section):
    """What users are promised, whatever the stable release does."""

    error_rate: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        default=0.01, description="Share of requests that may be answered with an error."
    )
    latency_ms: Annotated[Number, Field(gt=0)] = Field(
        default=1000, description="Latency that 99 % of the requests must not exceed, in milliseconds."
    )


class Rollout(Section):
    """How an environment moves from one release to the next."""

    strategy: Text = Field(default="canary", description="`canary`, `blue-green` or `rolling`.")
    steps: tuple[Percent, ...] = Field(
        default=(10, 50, 100),
        description="Traffic share of the candidate at each step, in percent, ascending to 100.",
    )
    objective: Objective = Field(default_factory=Objective)
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        default=0.01, description="Probability of rolling back a healthy candidate."
    )
    beta: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="Probability of promoting a candidate that is twice as bad."
    )
    deadline: Seconds = Field(
        default=3600, description="Seconds after which an undecided rollout ends as `could not tell`."
    )
    rollback_window: Seconds = Field(
        default=86400, description="Seconds that the previous release is kept warm after a promotion."
    )
    replicas: Annotated[Whole, Field(ge=1, le=100)] = Field(
        default=1, description="Server processes or pods per slot."
    )

    @model_validator(mode="after")
    def _ascending(self) -> Rollout:
        if not self.steps or self.steps[-1] != 100 or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("`rollout.steps` must ascend and end at 100")
        return self


class Serve(Section):
    """How the packaged model is served."""

    drain_seconds: Annotated[Number, Field(ge=0, le=600)] = Field(
        default=20, description="Seconds that requests in flight are given when a server ends."
    )
    batch_rows: Annotated[Whole, Field(ge=1, le=4096)] = Field(
        default=64, description="Rows of waiting requests that are predicted together at the most."
    )


def _data(value: object) -> object:
    return {"train": value} if isinstance(value, str) else value


def _train(value: object) -> object:
    return {"command": value} if isinstance(value, str) else value


def _metric(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Contract(Section):
    """The whole contract, defaults filled in."""

    model: ModelName = Field(description="Name of the model: lower-case letters, digits and dashes.")
    data: Annotated[Data, BeforeValidator(_data, json_schema_input_type=RelativePath | Data)] = Field(
        description="The data; a single path is short for `train`."
    )
    target: Text = Field(description="Column that is predicted.")
    task: Literal["classification", "regression"] | None = Field(
        default=None, description="Inferred from the metric when absent."
    )
    train: Annotated[Train, BeforeValidator(_train, json_schema_input_type=Text | Train)] = Field(
        description="The training; a single string is short for `command`."
    )
    metric: Annotated[Metric, BeforeValidator(_metric, json_schema_input_type=MetricName | Metric)] = Field(
        description="The metric that decides; a single name is short for `name`."
    )
    description: str = Field(default="", description="What the model is for; shown on the model card.")
    owner: str = Field(
        default="", description="Who answers for the model: a person or a team, with an address."
    )
    environment: Environment = Field(default_factory=Environment)
    test: Test = Field(default_factory=Test)
    benchmark: Benchmark = Field(default_factory=Benchmark)
    serve: Serve = Field(default_factory=Serve)
    rollout: Rollout = Field(default_factory=Rollout)

    @model_validator(mode="after")
    def _agree(self) -> Contract:
        numeric = self.metric.name in REGRESSION_METRICS
        if self.task is not None and (self.task == "regression") != numeric:
            raise ValueError(f"the metric `{self.metric.name}` does not measure a {self.task}")
        others = {self.data.id, self.data.time, self.data.entity, *self.data.ignore, *self.data.confirmed}
        if self.target in others:
            raise ValueError(f"the target `{self.target}` must not have a second role in `data`")
        return self

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """The task, given or inferred from the metric."""
        if self.task is not None:
            return self.task
        return "regression" if self.metric.name in REGRESSION_METRICS else "classification"
