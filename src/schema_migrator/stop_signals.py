"""The signals that stop a run. This module is loaded before all others and therefore imports none of them."""

import signal


def handled() -> tuple[signal.Signals, ...]:
    """Return SIGTERM and SIGINT, and also SIGHUP unless it is already ignored, as it is under nohup.

    An ignored SIGINT is handled all the same: a shell starts every background job with SIGINT ignored, so that says
    nothing about what the user wants.
    """
    hangup = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGTERM, signal.SIGINT, *hangup)
