"""The signals that end a run. Nothing else is imported here: this is loaded before all else."""

import signal


def handled() -> tuple[signal.Signals, ...]:
    """Return SIGTERM, SIGINT and SIGHUP without those that are ignored already, as nohup does with SIGHUP."""
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return tuple(number for number in ends if signal.getsignal(number) != signal.SIG_IGN)
