"""C2: where the time of an epoch goes: data loading, computation, total; in the labs' tables."""

from statistics import fmean, median
from typing import Any

from rich.console import Console

from experiments.command import run_command, say
from experiments.controls import (
    controls_finding,
    controls_table,
    has_controls,
    measure_controls,
    read_controls,
)
from experiments.published import published
from experiments.results import Results, Series, describe_protocol
from experiments.runner import open_run
from experiments.settings import TimedSettings, parse_settings
from experiments.variants import workers_words
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import plot_stacked_bars
from jaxresnet.report.tables import Table, median_and_range, number
from jaxresnet.train.timing import Diverged

EXPERIMENT = "c2_timing"

_SHOWN_BATCHES = 3  # of the beginning and of the end; all are in the JSON lines


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(TimedSettings, EXPERIMENT, __doc__ or "", arguments)
    variants = settings.variants()
    with open_run(EXPERIMENT, settings) as run:
        run.train(variants)
        if not run.diverged:
            try:
                measure_controls(run, variants[0])
            except Diverged as error:  # many steps on one batch can, where the training did not
                say(run.console, f"no controls: {error}")
        run.finish(variants, report)


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plot, and prints the tables."""
    first, words = results.series[0], results.dataset.words
    compiled = ", ".join(f"{start['compile']:.1f}" for start in first.starts)
    introduction = (
        f"{describe_protocol(results)} {_loading_words(results)} Compiling took {compiled} s, "
        "which is in no epoch's time; nor are evaluation and saving."
    )
    skip = _first_apart(results)
    epochs = [value for series in results.series for value in series.values("seconds")[skip:]]
    tables, findings = [_times_table(results)], _findings(results)
    if has_controls(results):
        controls = read_controls(results)
        tables.append(controls_table(controls, epochs, words))
        findings.append(controls_finding(controls, epochs, is_first=not skip))
    logged = words if len(results.series) == 1 else f"{words}, {first.variant.label}"
    report = Report(
        "C2: the time of an epoch",
        introduction,
        tables,
        [_plot(results)],
        asked="How does the time of an epoch divide into loading data and computing?",
        findings=findings,
        details=[
            _batch_table(first, logged),
            _epoch_log_table(first, logged),
            _cumulative_table(first, logged),
            _test_table(first, logged),
        ],
    )
    write_report(results.directory, report, console)


def _first_apart(results: Results) -> int:
    """1, to leave the first epoch out, where there are others."""
    return int(results.settings.training.epochs > 1)


def _findings(results: Results) -> list[str]:
    """Which part of the time was lost to input, and what starting cost."""

    skip = _first_apart(results)

    def median_of(key: str) -> float:
        return median(value for series in results.series for value in series.values(key)[skip:])

    total, stall, wait = (median_of(key) for key in ("seconds", "input_stall", "input_wait"))
    found = [
        f"Of the {number(total)} s of an epoch the device was idle for lack of input for "
        f"{number(stall)} s ({stall / total:.1%}), and the loop waited {number(wait)} s for data."
    ]
    if results.settings.training.epochs > 1:
        first = median(series.values("seconds")[0] for series in results.series)
        found.append(f"The first epoch, which is not counted here, took {number(first)} s.")
    return found


def _loading_words(results: Results) -> str:
    data = results.settings.data
    if data.loader == "resident":
        return "Resident loader: the data set is on the device."
    return f"tf.data loader with {workers_words(data.workers)}."


def _times_table(results: Results) -> Table:
    """lab-b's and lab-c's table of seconds by epoch."""
    lab_b, lab_c = published()["c2"]["lab-b"], published()["c2"]["lab-c"]
    theirs = [
        *(lab_b[key] for key in ("data_loading_s", "compute_s", "epoch_s")),
        *(lab_c[key] for key in ("data_loading_s", "compute_s")),
    ]

    def row(name: str, epochs: slice, published: list[float | None]) -> list[str]:
        ours = [
            [value for series in results.series for value in series.values(key)[epochs]]
            for key in ("input_wait", "input_stall", "compute", "seconds")
        ]
        return [
            name,
            *(median_and_range(values, number) for values in ours),
            *(number(value) for value in published),
        ]

    count = results.settings.training.epochs
    rows = []
    for index in range(count):
        published_ones = [values[index] if index < len(values) else None for values in theirs]
        rows.append(row(str(index + 1), slice(index, index + 1), published_ones))
    if count > 1:
        rows.append(row("but the first", slice(1, None), [median(values[1:]) for values in theirs]))
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
    if count > 1:
        note += (
            " The last row: medians of all epochs but the first, which starts tf.data and touches "
            "fresh memory."
        )
    if len(results.series) > 1:
        note += f" Medians of {len(results.series)} trainings; the range in brackets."
    return Table(
        f"Time by epoch: this run ({results.dataset.words}) beside the labs", columns, rows, note
    )


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


def _plot(results: Results) -> str:
    name = "time_by_epoch.png"

    def medians(key: str) -> list[float]:
        return [
            median(values)
            for values in zip(*(series.values(key) for series in results.series), strict=True)
        ]

    plot_stacked_bars(
        results.directory / name,
        f"{results.dataset.words}: time of each epoch",
        [str(index + 1) for index in range(results.settings.training.epochs)],
        "epoch",
        "seconds",
        {"computation": medians("compute"), "input stall": medians("input_stall")},
    )
    return name


if __name__ == "__main__":
    run_command(main)
