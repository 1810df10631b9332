"""Stopping on Ctrl-C or SIGTERM at a moment when nothing is lost."""

import contextlib
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The run was asked to stop, and its state is saved. exit_code: 128 + the signal's number."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class StopRequest:
    """Remembers the signal that asked the run to stop, if any did."""

    _signal: int | None = None

    def __bool__(self) -> bool:
        return self._signal is not None

    def remember(self, signal_number: int, _frame: object = None) -> None:
        """A signal handler. A second signal ends the program at once."""
        self._signal = signal_number
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def raise_if_set(self) -> None:
        """Raises Stopped if a signal came."""
        if self._signal is not None:
            raise Stopped(self._signal)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a request that the loop honours after the step at hand."""
    request = StopRequest()
    previous = {number: signal.signal(number, request.remember) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
