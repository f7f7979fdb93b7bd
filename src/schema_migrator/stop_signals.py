"""The signals that end a run. Nothing else is imported here: this is loaded before all else."""

import signal


def handled() -> tuple[signal.Signals, ...]:
    """Return SIGTERM and SIGINT, and SIGHUP unless it is ignored already, as nohup does.

    A shell starts what it puts into the background with SIGINT ignored; that is no wish of anybody's.
    """
    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGTERM, signal.SIGINT, *hangup)
