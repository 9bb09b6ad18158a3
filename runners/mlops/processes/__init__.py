"""Processes: those that outlive the command that started them, and those that must not."""

from mlops.processes.detached import Detached, alive, end, free_port, spawn
from mlops.processes.foreground import Ended, run_to_end

__all__ = ["Detached", "Ended", "alive", "end", "free_port", "run_to_end", "spawn"]
