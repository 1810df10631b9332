"""Small runs of the experiments about time, and the report of all of them."""

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import jax
import pytest

from experiments import c2_timing, c3_workers, c4_profiling, c5_devices, compare, report
from experiments.harness.best_workers import best_number
from experiments.harness.catalogue import list_published_experiments
from experiments.harness.loader_times import search
from jaxresnet import platform
from jaxresnet.errors import TrainingFailed
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import SMALL, command, run, table_rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """C2, C3 and C4, side by side as experiments.all leaves them."""
    root = tmp_path_factory.mktemp("runs")
    timed = ("--epochs", "2", "--repeats", "2")
    assert run(c2_timing.main, root / "c2_timing", *timed) == 0
    assert run(c3_workers.main, root / "c3_workers", *timed, "--workers-list", "0", "2") == 0
    assert run(c4_profiling.main, root / "c4_profiling", *timed, "--trace") == 0
    return root


def rows(directory: Path, label: str) -> list[list[str]]:
    """The cells of the report's rows that begin with the label."""
    rows = table_rows((directory / "report.md").read_text())
    return [cells for cells in rows if cells[0] == label]


def test_c2_tells_the_first_epoch_apart_and_gives_ranges(runs):
    epochs = read_json_lines(runs / "c2_timing" / "epochs.jsonl")
    assert [(e["series"], e["epoch"]) for e in epochs] == [
        ("sgd-repeat0", 0), ("sgd-repeat0", 1), ("sgd-repeat1", 0), ("sgd-repeat1", 1)
    ]  # fmt: skip
    # The same seed: repeats differ in time alone.
    assert [e["loss"] for e in epochs[:2]] == [e["loss"] for e in epochs[2:]]
    later = [e["seconds"] for e in epochs if e["epoch"] == 1]
    (row,) = rows(runs / "c2_timing", "but the first")
    assert row[4] == f"{median(later):.2f} ({min(later):.2f}-{max(later):.2f})"
    # lab-b's logs have one training: it is said which.
    report = (runs / "c2_timing" / "report.md").read_text()
    assert "lab-b's epoch level log (synthetic images, SGD, repeat 1)" in report


def test_c2s_controls_bound_an_epoch(runs):
    controls = json.loads((runs / "c2_timing" / "controls.json").read_text())
    assert controls["batches"] == 3
    assert len(controls["loader_passes"]) == 4
    assert len(controls["cached_batch"]) == 3
    epochs = read_json_lines(runs / "c2_timing" / "epochs.jsonl")
    # A loop that skipped computing, or a loader that made nothing, would be far from the epochs.
    assert 0 < max(controls["loader_passes"]) < max(epoch["seconds"] for epoch in epochs)
    computing = 3 * median(controls["cached_batch"])
    assert computing > 0.3 * median(epoch["compute"] for epoch in epochs)
    assert rows(runs / "c2_timing", "the loop on one cached batch")[0][2] == f"{computing:.2f}"


def test_c3_times_the_loader_alone_and_while_training(runs):
    directory = runs / "c3_workers"
    passes = read_json_lines(directory / "passes.jsonl")
    assert [(p["workers"], p["pass"], p["batches"]) for p in passes] == [
        (workers, number, 3) for workers in (0, 2) for number in range(3)
    ]
    alone = [p["seconds"] for p in passes if p["workers"] == 2]
    in_report = rows(directory, "2")
    assert in_report[0][1] == f"{alone[0]:.3f}"
    later = alone[1:]
    assert in_report[0][2] == f"{median(later):.3f} ({min(later):.3f}-{max(later):.3f})"
    assert in_report[0][3] == "1.975"  # lab-c's 1.9748 s
    epochs = read_json_lines(directory / "epochs.jsonl")
    waits = [
        sum(e["input_wait"] for e in epochs if e["series"] == f"sgd-workers0-repeat{repeat}")
        for repeat in (0, 1)
    ]
    assert rows(directory, "0")[1][1] == f"{median(waits):.2f} ({min(waits):.2f}-{max(waits):.2f})"
    assert rows(directory, "0")[1][6] == "74.84"
    assert json.loads((directory / "best.json").read_text()).keys() == {"loader", "training"}
    # lab-a, lab-b and lab-c found 0, 4 and 18.
    assert "lab-a 0, lab-b 4, lab-c 18" in (directory / "report.md").read_text()


def test_c4_compares_one_worker_with_the_best_of_c3_and_leaves_a_trace(runs):
    best = json.loads((runs / "c3_workers" / "best.json").read_text())["training"]
    directory = runs / "c4_profiling"
    choice = json.loads((directory / "choice.json").read_text())
    assert choice == {"best": best, "origin": str(runs / "c3_workers")}
    series = {epoch["series"] for epoch in read_json_lines(directory / "epochs.jsonl")}
    numbers = {1, best}
    assert series == {f"sgd-workers{n}-repeat{r}" for n in numbers for r in (0, 1)}
    assert rows(directory, "lab-b, 4")[0][1:4] == ["7.44", "-", "83.74"]
    (trace,) = (directory / "trace").rglob("*.trace.json.gz")
    names = {
        event.get("name")
        for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    }
    assert {"train", "input"} <= names
    assert "trace of a few steps is in the run's trace/" in (directory / "report.md").read_text()
    assert (directory / "time_by_workers.png").stat().st_size > 10_000


def test_the_best_number_is_the_smallest_within_one_spread_of_the_fastest():
    times = {0: [9.0, 9.1, 9.2], 4: [5.2, 5.3, 5.4], 8: [5.0, 5.2, 5.4], 12: [5.1, 5.15, 5.3]}
    assert best_number(times) == 4  # 5.3 <= 5.15 + (5.3 - 5.1)
    assert best_number({**times, 12: [5.14, 5.15, 5.16]}) == 12


def test_the_search_ends_where_the_time_no_longer_falls():
    medians = {0: 9.0, 4: 5.0, 8: 4.0, 12: 4.0, 16: 1.0}
    found = search(lambda workers: [99.0, medians[workers]], ())
    assert list(found) == [0, 4, 8, 12]
    assert list(search(lambda workers: [99.0, medians[workers]], (16, 0))) == [16, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers-list", "2", "2"], "--workers-list has a value twice: 2 2"),
        (["--loader", "resident"], "--loader is resident, which has no workers"),
        (["--workers", "4"], "--workers is 4, but this experiment varies the number"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
    ],
)
def test_c3_refuses_what_makes_no_sense(arguments, message, tmp_path, capsys):
    assert run(c3_workers.main, tmp_path / "run", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_loader_can_be_timed_without_training(tmp_path):
    assert run(c3_workers.main, tmp_path, "--modes", "loader", "--repeats", "1") == 0
    assert not (tmp_path / "epochs.jsonl").exists()
    assert "The loader alone" in (tmp_path / "report.md").read_text()


@pytest.fixture(scope="module")
def devices(runs) -> Path:
    directory = runs / "c5_devices"
    arguments = ["--epochs", "1", "--with", str(runs / "c2_timing")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        assert command(c5_devices.main, *SMALL, "--out", directory, *arguments) == 0
    return directory


def test_c5_trains_on_each_device_and_merges_other_runs(devices, runs):
    summary = json.loads((devices / "summary.json").read_text())["devices"]
    assert [len(device["first"]) for device in summary] == [1, 2]
    assert [len(device["later"]) for device in summary] == [0, 2]
    assert {device["backend"] for device in summary} == {"cpu"}
    (epoch,) = read_json_lines(devices / "cpu" / "epochs.jsonl")
    assert summary[0]["images_per_second"] == pytest.approx(60 / epoch["seconds"])
    report = (devices / "report.md").read_text()
    assert "threads (2) ran with" in report  # the merged run, on the same machine
    assert "--epochs 2" in report
    assert rows(devices, "lab-b, GPU")[0][6] == "266.7"


def test_c5_refuses_a_platform_that_does_not_start(tmp_path, capsys):
    arguments = ["--devices", "nonesuch", "--out", str(tmp_path / "run")]
    assert command(c5_devices.main, *SMALL, *arguments) == 2
    assert "JAX's platform nonesuch does not start" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_c5_reports_the_others_where_one_device_fails(runs, tmp_path, capsys, monkeypatch):
    def fail(*_: object) -> None:
        raise TrainingFailed("c2_timing ended with status 1")

    monkeypatch.setattr(c5_devices, "run_subprocess", fail)
    arguments = ["--devices", "cpu", "--with", str(runs / "c2_timing"), "--out", str(tmp_path)]
    assert command(c5_devices.main, *SMALL, "--epochs", "2", *arguments) == 1
    assert "cpu: c2_timing ended with status 1" in capsys.readouterr().err
    assert rows(tmp_path, platform.machine())


def test_other_workers_are_another_timed_run(runs, capsys):
    timed = ("--epochs", "2", "--repeats", "2", "--workers", "0")
    assert run(c2_timing.main, runs / "c2_timing", *timed) == 2
    assert "--workers: 2 there, 0 now" in capsys.readouterr().err


def test_times_of_another_device_are_not_mixed_in(runs, capsys, monkeypatch):
    monkeypatch.setattr("jaxresnet.platform.device", lambda: "NVIDIA H100")
    assert run(c2_timing.main, runs / "c2_timing", "--epochs", "2", "--repeats", "2") == 2
    assert "threads there, NVIDIA H100 now" in capsys.readouterr().err


def test_passes_that_were_cut_short_are_made_anew(tmp_path):
    arguments = ["--modes", "loader", "--repeats", "1", "--workers-list", "2"]
    assert run(c3_workers.main, tmp_path, *arguments) == 0
    passes = tmp_path / "passes.jsonl"
    first = passes.read_text().splitlines(keepends=True)[0]
    passes.write_text(first + first)  # two starts, each killed after its first pass
    assert run(c3_workers.main, tmp_path, *arguments) == 0
    assert [line["pass"] for line in read_json_lines(passes)] == [0, 0, 0, 1]


def test_c5_says_what_with_takes(tmp_path, capsys):
    arguments = ["--with", str(tmp_path), "--out", str(tmp_path / "run")]
    assert command(c5_devices.main, *SMALL, *arguments) == 2
    assert "give the directory of a run of c5_devices" in capsys.readouterr().err


def test_the_report_gathers_the_newest_runs_in_the_order_of_the_labs(devices, runs, tmp_path):
    assert command(report.main, "--runs", runs, "--out", tmp_path) == 0
    text = (tmp_path / "report.md").read_text()
    found = re.findall(r"^## (C\d|Q1)", text, re.M)
    assert found == ["C2", "C3", "C4", "C5"]
    assert re.findall("^# (.+)", text, re.M)[1:] == ["ResNet-18 on CIFAR-10"]
    made = [f"{anchor.lower()}_" for anchor in found]
    missing = [name for name in list_published_experiments() if not name.startswith(tuple(made))]
    assert f"Not run yet: {', '.join(missing)}" in text
    assert text.count(f"finished {datetime.now(UTC):%Y-%m-%d}: ") == 4
    assert text.count(f"jax {jax.__version__}, flax ") == 4
    # C5's own training is a run of c2_timing too, but a part of another run.
    assert f"{runs.name}/c2_timing`" in text
    assert "c5_devices/cpu`" not in text
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/png;base64,") == text.count("](c") == 5
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert all(f'id="{anchor}"' in html for anchor in re.findall(r'href="#(.+?)"', html))
    assert html.count("<table>") == text.count("\n| :-- |")


def test_the_report_says_what_to_do_when_there_are_no_runs(tmp_path, capsys):
    assert command(report.main, "--runs", tmp_path, "--out", tmp_path / "report") == 2
    assert "python -m experiments.all --quick" in capsys.readouterr().err


def test_runs_are_compared(runs, tmp_path, capsys):
    chosen = [runs / "c2_timing", runs / "c3_workers"]
    assert command(compare.main, *chosen, "--out", tmp_path / "compare") == 0
    assert rows(tmp_path / "compare", "experiment") == [["experiment", "c2_timing", "c3_workers"]]
    assert not rows(tmp_path / "compare", "--epochs")
    assert not rows(tmp_path / "compare", "--out")
    # c2_timing's by the command line, c3_workers' by default: both were 2.
    assert not rows(tmp_path / "compare", "--repeats")
    epochs = read_json_lines(runs / "c2_timing" / "epochs.jsonl")
    header, row = (
        rows(tmp_path / "compare", label)[0] for label in ("run, series", "c2_timing, sgd-repeat1")
    )
    assert row[header.index("loss")] == f"{epochs[3]['loss']:.3f}"
    assert (tmp_path / "compare" / "loss_by_epoch.png").exists()
    assert command(compare.main, chosen[0], tmp_path) == 2
    assert "is not the directory of a run" in capsys.readouterr().err
    assert command(compare.main, chosen[0]) == 2
    assert "needs two runs or more" in capsys.readouterr().err
