"""The signals that stop a run. This module imports none of the others, because it is loaded before them."""

import signal


def handled() -> tuple[signal.Signals, ...]:
    """Return SIGTERM and SIGINT, and also SIGHUP unless it is already ignored, as it is under nohup.

    SIGINT is handled even if it is ignored: a shell starts every background job that way, which is not a decision of
    the user.
    """
    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGTERM, signal.SIGINT, *hangup)
