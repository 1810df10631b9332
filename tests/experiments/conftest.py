"""For tests that run commands in this process."""

import pytest


@pytest.fixture(autouse=True)
def _restore_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command replaces how warnings are shown; afterwards they are shown as before."""
    monkeypatch.setattr("warnings.showwarning", lambda *_args, **_kwargs: None)
