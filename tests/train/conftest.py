"""For tests of the loop."""

from pathlib import Path

import pytest

from jaxresnet.models.resnet import MODELS, BasicBlock
from jaxresnet.train.state import TrainState
from tests.train.running import run


@pytest.fixture(autouse=True, scope="module")
def _tiny_network():
    """Two blocks, so that compiling takes little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "tiny", (BasicBlock, (1, 1)))
        yield


@pytest.fixture(autouse=True)
def _signal_handlers(monkeypatch):
    """remember() resets the process's handlers; the tests keep theirs."""
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[TrainState, Path]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return run(directory)[0], directory
