"""Processes: those that outlive the command that started them, and those that must not."""

from mlops.processes.detached import Detached, alive, ask_to_end, end, free_port, spawn
from mlops.processes.foreground import Ended, run_to_end
from mlops.processes.records import read_record, tail, write_record

__all__ = [
    "Detached",
    "Ended",
    "alive",
    "ask_to_end",
    "end",
    "free_port",
    "read_record",
    "run_to_end",
    "spawn",
    "tail",
    "write_record",
]
