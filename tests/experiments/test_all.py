"""Every experiment with one command: in order, resumable, stopped together."""

import re
import signal
import subprocess

import pytest

from experiments import all as all_experiments
from experiments import report
from experiments.harness.catalogue import ORIGINS, list_published_experiments, origin_of
from tests.experiments.running import command, start

TINY = ["--quick", "--epochs", "1", "--train-images", "256", "--eval-images", "64", "--width", "4"]


@pytest.mark.slow
def test_everything_runs_goes_on_after_a_stop_and_is_not_done_twice(tmp_path):
    with start("all", *TINY, "--out", tmp_path, stderr=subprocess.STDOUT) as stopped:
        assert stopped.stdout is not None
        for line in stopped.stdout:
            if "SGD, 0 workers, repeat 1, epoch 1/1:" in line:  # C3 has begun
                stopped.send_signal(signal.SIGTERM)
                break
        rest = stopped.stdout.read()
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "continues from here" in rest
    assert "== c4_profiling" not in rest

    with start("all", *TINY, "--out", tmp_path, stderr=subprocess.STDOUT) as again:
        output, _ = again.communicate()
    assert again.returncode == 0, output
    assert output.count("SGD: already trained") == 2  # the trainings of C1 and C2
    text = (tmp_path / "report" / "report.md").read_text()
    anchors = [name.partition("_")[0] for name in list_published_experiments()]
    assert re.findall(r'<a id="(\w+)">', text) == anchors
    assert "Not run yet" not in text


def test_one_that_fails_does_not_keep_the_others(tmp_path, monkeypatch, capfd):
    for module in (all_experiments, report):
        names = ["c1_training", "q_parameters"]
        monkeypatch.setattr(module, "list_published_experiments", lambda names=names: names)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    (tmp_path / "c1_training").mkdir()
    (tmp_path / "c1_training" / "thesis.tex").touch()  # which keeps a run from that directory
    assert command(all_experiments.main, *TINY, "--out", tmp_path) == 1
    assert "c1_training ended with status 2" in capfd.readouterr().err
    assert "## Q1 to Q4" in (tmp_path / "report" / "report.md").read_text()


def test_a_part_is_run_alone_with_the_options_that_its_experiments_have(tmp_path, monkeypatch):
    started = {}
    monkeypatch.setattr(
        all_experiments, "run_subprocess", lambda name, arguments: started.update({name: arguments})
    )
    monkeypatch.setattr(all_experiments, "write_full_report", lambda *_: None)
    given = ["--parts", "talk", "--width", "4", "--batch-size", "8", "--data", "synthetic"]
    assert command(all_experiments.main, *given, "--out", tmp_path) == 0
    assert started.keys() == {n for n in list_published_experiments() if n.startswith("r")}
    assert started["r1_parameters"] == ["--out", str(tmp_path / "r1_parameters")]
    assert started["r5_memory"] == ["--width", "4", "--out", str(tmp_path / "r5_memory")]


def test_every_experiment_belongs_to_a_part_of_the_report():
    assert {origin_of(name) for name in list_published_experiments()} == set(ORIGINS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "book"], "unknown part 'book': choose one of labs, talk"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--quick", "--data-dir", "x"], "--data-dir is x, but --data is synthetic"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(arguments, message, tmp_path, capsys):
    assert command(all_experiments.main, *arguments, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
