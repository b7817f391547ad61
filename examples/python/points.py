"""Crashes on demand, so that tests can show what survives them. Off unless CRASH_POINTS=1.

`X-Kill-At: POINT` kills the process there, `X-Stop-At: POINT` stops it until somebody sends SIGCONT.
"""

import os
import signal
import sys

ON = os.environ.get("CRASH_POINTS") == "1"


def of(environ):
    """What is to be called at each point of this request."""
    signals = {
        environ.get("HTTP_X_KILL_AT"): ("killed", signal.SIGKILL),
        environ.get("HTTP_X_STOP_AT"): ("stopped", signal.SIGSTOP),
    }

    def at(point):
        if ON and point in signals:
            said, number = signals[point]
            print(f"{said} at {point}: process {os.getpid()}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), number)

    return at
