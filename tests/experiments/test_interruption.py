"""Runs in processes of their own: terminated, killed, and two at once."""

import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import c1_training
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import SMALL, losses, run, saved_params, start


def wait_for_new_step(directory: Path, process: subprocess.Popen[str]) -> None:
    """Waits until the process has begun to train, and logged a step after that."""
    seen = len(read_json_lines(directory / "starts.jsonl"))
    while len(read_json_lines(directory / "starts.jsonl")) == seen:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    wait_for_steps(directory, len(read_json_lines(directory / "steps.jsonl")) + 1, process)


def wait_for_steps(directory: Path, steps: int, process: subprocess.Popen[str]) -> None:
    while len(read_json_lines(directory / "steps.jsonl")) < steps:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


LONG = (*SMALL, "--epochs", "30", "--out")


@pytest.mark.slow
def test_a_terminated_run_says_how_to_go_on_and_does(tmp_path):
    process = start("c1_training", *LONG, tmp_path / "run")
    wait_for_steps(tmp_path / "run", 4, process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert error == "stopped by SIGTERM; the same command, without --fresh, continues from here\n"
    steps_before = losses(tmp_path / "run")
    process = start("c1_training", *LONG, tmp_path / "run")
    wait_for_steps(tmp_path / "run", len(steps_before) + 1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    assert f"continues after step {len(steps_before)}" in output
    assert losses(tmp_path / "run")[: len(steps_before)] == steps_before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    arguments = ("--epochs", "8", "--checkpoint-every", "2")
    for _ in range(3):
        process = start("c1_training", *SMALL, *arguments, "--out", tmp_path / "killed")
        wait_for_new_step(tmp_path / "killed", process)
        process.kill()
        process.communicate()
    assert run(c1_training.main, tmp_path / "killed", *arguments) == 0
    assert run(c1_training.main, tmp_path / "whole", *arguments) == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    found, expected = saved_params(tmp_path / "killed"), saved_params(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_two_runs_on_one_directory_are_refused_and_output_is_plain(tmp_path):
    first = start("c1_training", *LONG, tmp_path / "run")
    wait_for_steps(tmp_path / "run", 1, first)
    second = start("c1_training", *LONG, tmp_path / "run")
    output, error = second.communicate()
    first.kill()
    first_output, first_error = first.communicate()
    assert second.returncode == 2
    assert "another process is using" in error
    assert "Traceback" not in error
    # Without a terminal: no bars, no colours, nothing of TensorFlow's.
    assert "\x1b" not in first_output + output
    assert first_error == ""
