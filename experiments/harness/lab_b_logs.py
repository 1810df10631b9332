"""The logs of lab-b (C2), with all of its fields by their published names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

import numpy as np

from experiments.harness.results import Series
from jaxresnet.report.tables import Column, Table, make_table, number
from jaxresnet.train.figures import Record

_SHOWN_BATCHES = 3  # of the beginning and of the end; all are in the JSON lines


def lab_b_logs(series: Series, images: str) -> list[Table]:
    """Of a training, by batch, by epoch, over all epochs, and of the test images."""
    columns = [
        Column[Record]("Train Epoch", itemgetter("epoch"), 0),
        Column[Record]("Batch Number", itemgetter("batch"), 0),
        Column[Record]("Batch Loss", itemgetter("loss"), 4),
        Column[Record]("Batch Data\nLoad Time", itemgetter("input_wait"), 4),
        Column[Record]("Batch Computation\nTime", itemgetter("compute"), 4),
        Column[Record]("Batch precision\nvalue", itemgetter("top1"), 4),
    ]
    note = "The first and last batches; all of them are in steps.jsonl."
    return [
        make_table(f"lab-b's minibatch level log ({images})", columns, _ends(series.steps), note),
        *_epoch_tables(series, images),
        _test_table(series, images),
    ]


def _ends(lines: list[Record]) -> list[Record]:
    """The first and the last few lines, none twice."""
    return lines[:_SHOWN_BATCHES] + lines[_SHOWN_BATCHES:][-_SHOWN_BATCHES:]


def _epoch_tables(series: Series, images: str) -> list[Table]:
    """lab-b's epoch-level log, by epoch, and its cumulative log, over all of them."""
    seconds, loss, loading, computing, steps = (
        np.array(series.values(key))
        for key in ("seconds", "loss", "input_wait", "compute", "steps")
    )
    batches = groupby(series.steps, itemgetter("epoch"))
    precision = np.array([np.mean([batch["top1"] for batch in epoch]) for _, epoch in batches])
    by_epoch = {
        "Total Epoch Time": seconds,
        "Total Epoch Loss": loss * steps,
        "Average Epoch Loss": loss,
        "Total Precision Value": precision * steps,
        "Average Precision Value": precision,
        "Total Time loading all batches data in this epoch": loading,
        "Average Time loading all batches data in this epoch": loading / steps,
        "Total time for all batches computation in this epoch": computing,
        "Average time for all batches computation in this epoch": computing / steps,
    }
    cumulative = {
        "Total Epochs time": seconds.sum(),
        "Average all Epochs Time": seconds.mean(),
        "All Epoch Data Loading Time": loading.sum(),
        "Average all Epochs Data Loading Time": loading.mean(),
        "All Epoch Computation Time": computing.sum(),
        "Average all Epochs Total Computation Time": computing.mean(),
        "All Epoch Loss": loss.sum(),
        "Average all Epochs Loss": loss.mean(),
        "All Epoch Precision Value": precision.sum(),
        "Average all Epochs Precision Value": precision.mean(),
    }
    rows = [[name, number(value, 4)] for name, value in cumulative.items()]
    rows.insert(0, ["Epochs.arg", str(len(steps))])
    columns = [f"epoch {epoch}" for epoch in range(len(steps))]
    return [
        _field_table(f"lab-b's epoch level log ({images})", columns, by_epoch),
        Table(f"lab-b's cumulative log ({images})", ["field", "value"], rows),
    ]


def _test_table(series: Series, images: str) -> Table:
    """lab-b's test-level log: some batches of the last epoch, then the means."""
    last = len(series.epochs) - 1
    batches = _ends([line for line in series.test_batches if line["epoch"] == last])
    lines = {f"epoch {last}, batch {line['batch']}": line for line in batches}
    for index, epoch in enumerate(series.epochs):
        lines[f"epoch {index}, Average Epoch Test Precision Value"] = epoch
    fields = {name: [line["test_loss"], line["test_top1"]] for name, line in lines.items()}
    fields["Average Epochs Precision Value"] = [series.mean("test_loss"), series.mean("test_top1")]
    columns = ["Batch Test Loss", "Batch Test Precision"]
    table = _field_table(f"lab-b's test level log ({images})", columns, fields)
    return replace(table, note="All test batches are in test_batches.jsonl.")


def _field_table(
    title: str, columns: Sequence[str], fields: Mapping[str, Sequence[float] | np.ndarray]
) -> Table:
    """A row for each field."""
    rows = [[name, *(number(value, 4) for value in values)] for name, values in fields.items()]
    return Table(title, ["field", *columns], rows)
