"""The directory of a run: which one is the newest, what later starts change, other versions."""

import json
from pathlib import Path

import pytest

from experiments import c1_training, compare, report
from experiments.harness.run_directory import (
    find_runs,
    finish_run,
    open_run_directory,
    read_environment,
)
from jaxresnet.errors import UserError
from tests.experiments.running import command, run


def finish(directory: Path, loss: float) -> None:
    """Runs an experiment that ends with that loss."""
    with open_run_directory(directory, {"experiment": "c1_training"}, {}, {}):
        finish_run(directory, {"loss": loss})


def test_repeating_a_finished_command_does_not_make_its_run_the_newest(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    finish(first, 1.0)
    finish(second, 2.0)
    assert find_runs(tmp_path, "c1_training") == [second, first]
    finish(first, 1.0)
    assert find_runs(tmp_path, "c1_training") == [second, first]
    finish(first, 0.5)  # it found something else
    assert find_runs(tmp_path, "c1_training") == [first, second]


def test_a_run_that_was_not_finished_is_not_found(tmp_path):
    with open_run_directory(tmp_path / "run", {"experiment": "c1_training"}, {}, {}):
        pass
    (tmp_path / "run" / "summary.json").write_text('{"loss": 1')
    assert find_runs(tmp_path, "c1_training") == []


def test_a_later_start_says_what_has_changed(tmp_path):
    for environment in ({"jax": "1", "revision": "a"}, {"jax": "2", "revision": "a"}) * 2:
        with open_run_directory(tmp_path / "run", {"experiment": "c1"}, {}, environment):
            pass
    found = read_environment(tmp_path / "run")
    assert (found["jax"], found["revision"]) == ("1", "a")
    assert found["later_starts"] == [{"jax": "2"}, {}, {"jax": "2"}]


def test_a_damaged_environment_is_refused_and_left_as_it_is(tmp_path):
    environment = tmp_path / "environment.json"
    with open_run_directory(tmp_path, {"experiment": "c1"}, {}, {"jax": "1"}):
        pass
    environment.write_text('{"jax": "1", "rev')
    with (
        pytest.raises(UserError, match=r"environment.json, .* is damaged: move it away"),
        open_run_directory(tmp_path, {"experiment": "c1"}, {}, {"jax": "2"}),
    ):
        pass
    assert environment.read_text() == '{"jax": "1", "rev'


def test_a_report_says_that_a_run_was_trained_by_two_revisions(tmp_path):
    assert run(c1_training.main, tmp_path, "--epochs", "1") == 0
    starts = tmp_path / "starts.jsonl"
    start = json.loads(starts.read_text())
    assert {"machine", "revision", "compile"} <= start.keys()
    starts.write_text("".join(json.dumps({**start, "revision": r}) + "\n" for r in ("aa", "bb")))
    assert run(c1_training.main, tmp_path, "--epochs", "1") == 0
    assert "Trained by several revisions of this code: aa and bb." in (
        (tmp_path / "report.md").read_text()
    )


def test_a_run_of_another_version_is_refused_with_one_line_and_not_half_read(tmp_path, capsys):
    """settings.json as the project's first version wrote it."""
    old = tmp_path / "runs" / "c1_training"
    finish(old, 1.0)
    identity = {"experiment": "c1_training", "images": "CIFAR-10", "--epochs": 5}
    (old / "settings.json").write_text(json.dumps({"result": identity, "all": {}}))
    with pytest.raises(UserError, match="holds a run of another version of this project"):
        finish(old, 2.0)
    assert run(c1_training.main, old, "--epochs", "1") == 2
    assert "of another version" in capsys.readouterr().err
    assert find_runs(tmp_path, "c1_training") == []
    assert command(compare.main, old, old.parent) == 2
    assert "of this version" in capsys.readouterr().err
    assert command(report.main, "--runs", tmp_path, "--out", tmp_path / "report") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert run(c1_training.main, old, "--epochs", "1", "--fresh") == 0
