"""A contestant for the tests of the benchmarks, run in processes of its own."""

import os
import signal
import time
from pathlib import Path

from experiments.bench.worker import Answer, Settings, Work


def set_up(settings: Settings) -> tuple[Answer, Work]:
    """fails: "at once", or "later" in the second round. log: a file for whose turn it is."""
    if settings["fails"] == "at once":
        raise ValueError("a made-up failure")
    print("what libraries print is no answer")
    Path(settings["pid_file"]).write_text(str(os.getpid()))
    rounds = iter(range(1, 100))

    def work() -> int:
        if next(rounds) == 2 and settings["fails"] == "later":
            os.kill(os.getpid(), signal.SIGKILL)
        with Path(settings["log"]).open("a") as log:
            log.write(settings["name"])
        time.sleep(settings["sleep"])
        return 3

    return {"name": settings["name"]}, work
