"""Every run of the tests draws the same examples, and can be interrupted whoever started it."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.load_profile("same")

# A shell's background jobs ignore Ctrl-C, and so would everything that is tested to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
