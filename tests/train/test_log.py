"""The figures and the logs: whole after a kill, rewound to a checkpoint, summed rightly."""

import contextlib

import pytest

from jaxresnet.errors import UserError
from jaxresnet.train.figures import FIGURES, Record, epoch_record
from jaxresnet.train.log import EventFiles, RunLog, read_json_lines
from tests.train.records import record

START = {"machine": "here", "revision": "abc"}


def evaluated() -> Record:
    return {"test_loss": 0.5, "test_top1": 0.25, "test_images": 40, "test_seconds": 2.0}


def test_an_epochs_figures_are_sums_and_means_of_its_steps():
    steps = [record(0, loss=3.0, correct=9), record(1, loss=1.0, images=2, correct=0)]
    summary = epoch_record(0, steps, evaluated())
    assert summary["images"] == 12
    assert summary["loss"] == 2.0  # the mean of the batches' losses, as in the published runs
    assert summary["top1"] == pytest.approx(9 / 12)
    assert summary["best_top1"] == pytest.approx(9 / 10)  # after the first batch
    assert summary["seconds"] == pytest.approx(2.1)
    assert (summary["input_wait"], summary["input_stall"]) == (
        pytest.approx(0.2),
        pytest.approx(0.1),
    )
    assert (summary["test_loss"], summary["test_top1"], summary["test_images"]) == (0.5, 0.25, 40)


def test_rewinding_forgets_one_series_after_its_checkpoint(tmp_path):
    log = RunLog(tmp_path, "synthetic images", START)
    for step in range(5):
        log.add("steps", "sgd", record(step))
        log.add("steps", "adam", record(step))
    log.rewind("adam", step=3, epoch=0)
    assert [kept["step"] for kept in log.lines("steps", "adam")] == [0, 1, 2]
    log.add("steps", "adam", record(3))
    log.close()
    lines = read_json_lines(tmp_path / "steps.jsonl")
    assert [line["step"] for line in lines if line["series"] == "sgd"] == [0, 1, 2, 3, 4]
    assert [line["step"] for line in lines if line["series"] == "adam"] == [0, 1, 2, 3]
    assert {line["data"] for line in lines} == {"synthetic images"}


def test_event_files_have_each_step_once_after_going_on(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    log = RunLog(tmp_path, "synthetic images", START, EventFiles(tmp_path / "events"))
    for step in range(4):
        log.add("steps", "sgd", record(step))
    log.close()
    log = RunLog(tmp_path, "synthetic images", START, EventFiles(tmp_path / "events"))
    log.rewind("sgd", step=2, epoch=1)
    log.add("steps", "sgd", record(2))
    log.add("epochs", "sgd", epoch_record(0, [record(0)], evaluated()))
    log.close()
    files = (tmp_path / "events" / "sgd").iterdir()
    events = [event for file in files for event in EventFileLoader(str(file)).Load()]
    found = [(value.tag, e.step) for e in events for value in e.summary.value]
    assert [step for tag, step in found if tag == "step/loss"] == [0, 1, 2]
    assert [step for tag, step in found if tag == "epoch/test_loss"] == [1]


def test_a_line_cut_short_is_dropped(tmp_path):
    log = RunLog(tmp_path, "CIFAR-10 images", START)
    log.add("steps", "sgd", record(0))
    log.add("steps", "sgd", record(1))
    log.close()
    path = tmp_path / "steps.jsonl"
    path.write_text(path.read_text()[:-20])
    log = RunLog(tmp_path, "CIFAR-10 images", START)
    log.rewind("sgd", step=10, epoch=1)
    records = log.lines("steps", "sgd")
    log.add("steps", "sgd", record(1))
    log.close()
    assert [kept["step"] for kept in records] == [0]
    assert [line["step"] for line in read_json_lines(path)] == [0, 1]


def test_a_damaged_line_elsewhere_is_an_error_and_the_file_is_left_as_it_is(tmp_path):
    log = RunLog(tmp_path, "CIFAR-10 images", START)
    for step in range(3):
        log.add("steps", "sgd", record(step))
    log.close()
    path = tmp_path / "steps.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for damage in ("{half\n", "[1, 2]\n", "\n", "\ufffd\n"):
        path.write_text(lines[0] + damage + lines[2])
        before = path.read_bytes()
        with (
            pytest.raises(UserError, match=r"steps\.jsonl, line 2 is damaged"),
            contextlib.closing(RunLog(tmp_path, "CIFAR-10 images", START)) as log,
        ):
            log.rewind("sgd", step=3, epoch=0)
        assert path.read_bytes() == before


def test_every_figure_with_a_column_reaches_the_epochs_line():
    line = epoch_record(0, [record(0), record(1)], {**evaluated(), "test_top5": 0.5})
    assert {figure.name for figure in FIGURES if figure.header} <= line.keys()
