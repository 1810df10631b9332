"""Which run of an experiment is the newest."""

from pathlib import Path

from experiments.run_directory import find_runs, finish_run, open_run_directory


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
