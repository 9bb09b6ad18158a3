"""Micro-batching: together when they wait, alone when one is bad, never mixed when they differ."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_serve.batching import Batcher
from mlops_serve.failures import ModelError, Refused
from mlops_serve.model import Rows
from mlops_serve.outputs import Outputs, outputs_of


class Recorder:
    """A model that doubles `x`, fails on negative numbers, and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: Rows, count: int) -> Outputs:
        self.gate.wait(10)
        self.calls.append((count, rows["x"].dtype.kind))
        if rows["x"].dtype.kind != "O" and (rows["x"] < 0).any():
            raise ValueError("negative")
        return outputs_of(rows["x"] * 2, count)


async def together(model: Recorder, requests: list[Any], **options: int) -> list[Any]:
    """Let the model be busy with one request while all the others arrive."""
    batcher = batch(model, **options)
    model.gate.clear()
    first = asyncio.ensure_future(batcher.predict({"x": np.array([1.0])}, 1))
    await asyncio.sleep(0.05)
    waiting = [asyncio.ensure_future(batcher.predict({"x": each}, len(each))) for each in requests]
    await asyncio.sleep(0)
    model.gate.set()
    await first
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    batcher.close()
    return answers


def batch(model: Callable[[Rows, int], Outputs], batch_rows: int = 64, queue_rows: int = 1000) -> Batcher:
    return Batcher(model, batch_rows=batch_rows, queue_rows=queue_rows, on_batch=lambda rows: None)


async def test_what_waits_is_predicted_together_up_to_the_limit() -> None:
    model = Recorder()
    answers = await together(model, [np.array([float(i)]) for i in range(10)], batch_rows=4)
    assert [answer.named["prediction"].tolist() for answer in answers] == [[2.0 * i] for i in range(10)]
    assert [count for count, _ in model.calls] == [1, 4, 4, 2]


async def test_a_request_larger_than_the_limit_is_predicted_whole() -> None:
    model = Recorder()
    answers = await together(model, [np.arange(3.0), np.arange(9.0)], batch_rows=4)
    assert [len(answer.named["prediction"]) for answer in answers] == [3, 9]
    assert [count for count, _ in model.calls] == [1, 3, 9]


async def test_one_bad_row_hurts_only_its_own_request() -> None:
    model = Recorder()
    answers = await together(model, [np.array([1.0]), np.array([-1.0]), np.array([3.0])])
    assert answers[0].named["prediction"].tolist() == [2.0]
    assert answers[2].named["prediction"].tolist() == [6.0]
    assert isinstance(answers[1], ModelError)
    assert isinstance(answers[1].__cause__, ValueError)


async def test_requests_of_other_types_are_not_joined() -> None:
    model = Recorder()
    await together(model, [np.array([1.0]), np.array([2]), np.array([3.0]), np.array(["q"], dtype=object)])
    assert sorted(model.calls) == [(1, "O"), (1, "f"), (1, "i"), (2, "f")]


async def test_too_many_waiting_rows_are_turned_away() -> None:
    answers = await together(Recorder(), [np.arange(6.0), np.arange(6.0)], queue_rows=8)
    assert len(answers[0].named["prediction"]) == 6
    assert isinstance(answers[1], Refused)
    assert answers[1].status == 503


async def test_a_client_that_has_gone_stops_nobody() -> None:
    model = Recorder()
    batcher = batch(model)
    model.gate.clear()
    gone = asyncio.ensure_future(batcher.predict({"x": np.array([1.0])}, 1))
    await asyncio.sleep(0.05)
    gone.cancel()
    model.gate.set()
    answer = await batcher.predict({"x": np.array([4.0])}, 1)
    assert answer.named["prediction"].tolist() == [8.0]
    batcher.close()


async def test_closing_ends_the_thread_after_what_waits() -> None:
    model = Recorder()
    batcher = batch(model)
    model.gate.clear()
    answers = [asyncio.ensure_future(batcher.predict({"x": np.array([1.0])}, 1)) for _ in range(3)]
    await asyncio.sleep(0.05)
    closing = asyncio.get_running_loop().run_in_executor(None, batcher.close)
    model.gate.set()
    await asyncio.gather(closing, *answers)
    assert not batcher._thread.is_alive()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.floats(-1, 10), min_size=1, max_size=4), min_size=1, max_size=8))
def test_batched_is_the_same_as_single(requests: list[list[float]]) -> None:
    arrays = [np.array(each) for each in requests]
    batched = asyncio.run(together(Recorder(), list(arrays)))
    for array, answer in zip(arrays, batched, strict=True):
        if (array < 0).any():
            assert isinstance(answer, ModelError)
        else:
            assert answer.named["prediction"].tolist() == (array * 2).tolist()


@pytest.mark.parametrize(
    "answer",
    [[1, 2], 5, {}, {"x": [1]}],
)
def test_an_answer_of_another_number_of_rows_is_the_models_fault(answer: Any) -> None:
    with pytest.raises(ModelError):
        outputs_of(answer, 3)
