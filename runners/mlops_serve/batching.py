"""Adaptive micro-batching: whatever waits while the model is busy is predicted together next.

Nothing ever waits for a batch to fill: a request that finds the model idle is predicted at once, alone. One thread
predicts, so a model needs not be thread-safe, and one bad row costs only the request that it came with.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Callable, Union

import numpy as np

from mlops_serve.failures import ModelError, Refused
from mlops_serve.model import Rows
from mlops_serve.outputs import Outputs

Predict = Callable[[Rows, int], Outputs]
Answer = Union[Outputs, BaseException]


@dataclass(frozen=True)
class _Waiting:
    rows: Rows
    count: int
    future: asyncio.Future[Outputs]


class Batcher:
    """Predicts in a thread of its own. All methods but :meth:`close` are called from the event loop."""

    def __init__(
        self,
        predict: Predict,
        *,
        batch_rows: int,
        queue_rows: int = 65536,
        on_batch: Callable[[int], None],
    ) -> None:
        self._predict = predict
        self._batch_rows = batch_rows
        self._queue_rows = queue_rows
        self._on_batch = on_batch
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._held: _Waiting | None = None
        self._waiting_rows = 0
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
        self._thread.start()

    async def predict(self, rows: Rows, count: int) -> Outputs:
        """Return the answer for these rows; raises ModelError when the model raises, Refused (503) when too many wait."""
        if self._waiting_rows and self._waiting_rows + count > self._queue_rows:
            raise Refused(503, "too many rows are waiting; try again shortly")
        future: asyncio.Future[Outputs] = self._loop.create_future()
        self._waiting_rows += count
        self._queue.put(_Waiting(rows, count, future))
        try:
            return await future
        finally:
            self._waiting_rows -= count

    def close(self) -> None:
        """End the thread once all that waits is answered."""
        self._queue.put(None)
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                return
            self._on_batch(sum(waiting.count for waiting in batch))
            self._loop.call_soon_threadsafe(_deliver, self._answer(batch))

    def _take(self) -> list[_Waiting]:
        """Wait for a request, then take all that wait with it, up to the rows of a batch; empty at the end."""
        first = self._held or self._queue.get()
        self._held = None
        if first is None:
            return []
        batch, rows = [first], first.count
        while rows < self._batch_rows:
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                break
            if waiting is None:
                self._queue.put(None)
                break
            if rows + waiting.count > self._batch_rows:
                self._held = waiting
                break
            batch.append(waiting)
            rows += waiting.count
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> list[tuple[_Waiting, Answer]]:
        return [pair for group in _alike(batch) for pair in zip(group, self._together(group))]

    def _together(self, group: Sequence[_Waiting]) -> list[Answer]:
        if len(group) == 1:
            return [self._alone(group[0])]
        try:
            return _split(self._predict(_joined(group), sum(each.count for each in group)), group)
        except Exception:  # noqa: BLE001 - one bad row must hurt only the request that it came with
            return [self._alone(waiting) for waiting in group]

    def _alone(self, waiting: _Waiting) -> Answer:
        try:
            return self._predict(waiting.rows, waiting.count)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            failure = ModelError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure


def _alike(batch: Sequence[_Waiting]) -> list[list[_Waiting]]:
    """Group requests of the same columns and types: joining others would change what their model sees."""
    if len(batch) == 1:
        return [list(batch)]
    groups: dict[Hashable, list[_Waiting]] = {}
    for waiting in batch:
        kind = tuple((name, array.dtype.str, array.shape[1:]) for name, array in waiting.rows.items())
        groups.setdefault(kind, []).append(waiting)
    return list(groups.values())


def _joined(batch: Sequence[_Waiting]) -> Rows:
    names = batch[0].rows.keys()
    return {name: np.concatenate([each.rows[name] for each in batch]) for name in names}


def _split(outputs: Outputs, batch: Sequence[_Waiting]) -> list[Answer]:
    parts: list[Answer] = []
    start = 0
    for waiting in batch:
        parts.append(outputs.part(start, start + waiting.count))
        start += waiting.count
    return parts


def _deliver(answers: Sequence[tuple[_Waiting, Answer]]) -> None:
    for waiting, answer in answers:
        if waiting.future.done():
            continue  # the client has gone
        if isinstance(answer, BaseException):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)
