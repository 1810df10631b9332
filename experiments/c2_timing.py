"""C2: where the time of an epoch goes: data loading, computation, total; in the labs' tables."""

from statistics import fmean
from typing import Any

from rich.console import Console

from experiments.command import run_command
from experiments.published import published
from experiments.results import Results, Series, describe_protocol
from experiments.runner import run_experiment
from experiments.settings import SingleSettings, parse_settings
from jaxresnet.report.document import write_report
from jaxresnet.report.plots import plot_stacked_bars
from jaxresnet.report.tables import MISSING, Table, number

EXPERIMENT = "c2_timing"

_SHOWN_BATCHES = 3  # of the beginning and of the end; all are in the JSON lines


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SingleSettings, EXPERIMENT, __doc__ or "", arguments)
    run_experiment(EXPERIMENT, settings, report)


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plot, and prints the tables."""
    (series,) = results.series
    words = results.dataset.words
    compiled = ", ".join(f"{start['compile']:.1f}" for start in series.starts)
    introduction = (
        f"{describe_protocol(results)} {_loading_words(results)} Compiling took {compiled} s, "
        "which is in no epoch's time; nor are evaluation and saving."
    )
    tables = [
        _times_table(series, words),
        _batch_table(series, words),
        _epoch_log_table(series, words),
        _cumulative_table(series, words),
        _test_table(series, words),
    ]
    write_report(
        results.directory,
        "C2: the time of an epoch",
        introduction,
        tables,
        [_plot(results, series)],
        console,
    )


def _loading_words(results: Results) -> str:
    data = results.settings.data
    if data.loader == "resident":
        return "Resident loader: the data set is on the device."
    return f"tf.data loader with {data.workers} workers."


def _times_table(series: Series, words: str) -> Table:
    """lab-b's and lab-c's table of seconds by epoch."""
    lab_b, lab_c = published()["c2"]["lab-b"], published()["c2"]["lab-c"]
    theirs = [
        *(lab_b[key] for key in ("data_loading_s", "compute_s", "epoch_s")),
        *(lab_c[key] for key in ("data_loading_s", "compute_s")),
    ]
    rows = []
    for index, epoch in enumerate(series.epochs):
        rows.append(
            [
                str(index + 1),
                *(number(epoch[key]) for key in ("input_wait", "input_stall", "compute")),
                number(epoch["seconds"]),
                *(number(values[index]) if index < len(values) else MISSING for values in theirs),
            ]
        )
    columns = [
        "epoch", "data\nloading", "input\nstall", "com-\nputation", "total",
        "lab-b\nloading", "lab-b\ncomp.", "lab-b\ntotal", "lab-c\nloading", "lab-c\ncomp.",
    ]  # fmt: skip
    note = (
        "Seconds. Data loading: what the loop was blocked in getting batches (input wait), as "
        "the labs timed it. Input stall: what the device was idle for lack of a batch. "
        "Computation: the total less the stall. Loading that passes while the device computes "
        "costs nothing, so the columns do not add up with data loading. The labs: 2 workers, one "
        f"GPU; lab-c's 5 epochs took {published()['c2']['lab-c']['total_s']:.1f} s."
    )
    return Table(f"Time by epoch: this run ({words}) beside the labs", columns, rows, note)


def _batch_table(series: Series, words: str) -> Table:
    """lab-b's minibatch-level log, its first and last batches."""
    rows = [
        [
            str(step["epoch"]),
            str(step["batch"]),
            number(step["loss"], 4),
            number(step["input_wait"], 4),
            number(step["compute"], 4),
            number(step["correct"] / step["images"], 4),
        ]
        for step in _ends(series.steps)
    ]
    columns = [
        "Train Epoch", "Batch Number", "Batch Loss", "Batch Data\nLoad Time",
        "Batch Computation\nTime", "Batch precision\nvalue",
    ]  # fmt: skip
    note = "The first and last batches; all of them are in steps.jsonl."
    return Table(f"lab-b's minibatch level log ({words})", columns, rows, note)


def _ends(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first and the last few lines, none twice."""
    if len(lines) <= 2 * _SHOWN_BATCHES:
        return lines
    return lines[:_SHOWN_BATCHES] + lines[-_SHOWN_BATCHES:]


def _precisions(series: Series, epoch: int) -> list[float]:
    return [step["correct"] / step["images"] for step in series.steps if step["epoch"] == epoch]


def _epoch_log_table(series: Series, words: str) -> Table:
    """lab-b's epoch-level log: a row for each field, a column for each epoch."""
    precisions = [_precisions(series, epoch) for epoch in range(len(series.epochs))]
    fields = {
        "Total Epoch Time": series.values("seconds"),
        "Total Epoch Loss": [epoch["loss"] * epoch["steps"] for epoch in series.epochs],
        "Average Epoch Loss": series.values("loss"),
        "Total Precision Value": [sum(values) for values in precisions],
        "Average Precision Value": [fmean(values) for values in precisions],
        "Total Time loading all batches data in this epoch": series.values("input_wait"),
        "Average Time loading all batches data in this epoch": _per_step(series, "input_wait"),
        "Total time for all batches computation in this epoch": series.values("compute"),
        "Average time for all batches computation in this epoch": _per_step(series, "compute"),
    }
    rows = [[name, *(number(value, 4) for value in values)] for name, values in fields.items()]
    columns = ["field", *(f"epoch {index}" for index in range(len(series.epochs)))]
    return Table(f"lab-b's epoch level log ({words})", columns, rows)


def _per_step(series: Series, key: str) -> list[float]:
    return [epoch[key] / epoch["steps"] for epoch in series.epochs]


def _cumulative_table(series: Series, words: str) -> Table:
    """lab-b's cumulative log: sums over the epochs, and means per epoch."""
    top1 = [fmean(_precisions(series, epoch)) for epoch in range(len(series.epochs))]
    sums = {
        ("Total Epochs time", "Average all Epochs Time"): series.values("seconds"),
        ("All Epoch Data Loading Time", "Average all Epochs Data Loading Time"): series.values(
            "input_wait"
        ),
        (
            "All Epoch Computation Time",
            "Average all Epochs Total Computation Time",
        ): series.values("compute"),
        ("All Epoch Loss", "Average all Epochs Loss"): series.values("loss"),
        ("All Epoch Precision Value", "Average all Epochs Precision Value"): top1,
    }
    rows = [["Epochs.arg", str(len(series.epochs))]]
    for (total, mean), values in sums.items():
        rows += [[total, number(sum(values), 4)], [mean, number(fmean(values), 4)]]
    return Table(f"lab-b's cumulative log ({words})", ["field", "value"], rows)


def _test_table(series: Series, words: str) -> Table:
    """lab-b's test-level log: some batches of the last epoch, then the means."""
    last = len(series.epochs) - 1
    batches = [line for line in series.test_batches if line["epoch"] == last]
    rows = [
        [f"epoch {last}, batch {line['batch']}", number(line["loss"], 4), number(line["top1"], 4)]
        for line in _ends(batches)
    ]
    rows += [
        [
            f"epoch {index}, Average Epoch Test Precision Value",
            number(epoch["test_loss"], 4),
            number(epoch["test_top1"], 4),
        ]
        for index, epoch in enumerate(series.epochs)
    ]
    means = [number(series.mean("test_loss"), 4), number(series.mean("test_top1"), 4)]
    rows.append(["Average Epochs Precision Value", *means])
    note = "All test batches are in test_batches.jsonl."
    columns = ["field", "Batch Test Loss", "Batch Test Precision"]
    return Table(f"lab-b's test level log ({words})", columns, rows, note)


def _plot(results: Results, series: Series) -> str:
    name = "time_by_epoch.png"
    plot_stacked_bars(
        results.directory / name,
        f"{results.dataset.words}: time of each epoch",
        [str(index + 1) for index in range(len(series.epochs))],
        "epoch",
        "seconds",
        {"computation": series.values("compute"), "input stall": series.values("input_stall")},
    )
    return name


if __name__ == "__main__":
    run_command(main)
