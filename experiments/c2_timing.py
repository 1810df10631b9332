"""C2: where the time of an epoch goes: data loading, computation, total; in the labs' tables."""

from functools import partial
from operator import itemgetter
from statistics import median

from experiments.harness import controls
from experiments.harness.claims import claim
from experiments.harness.command import run_command, say
from experiments.harness.epoch_times import TIME_COLUMNS, plot_times
from experiments.harness.lab_b_logs import lab_b_logs
from experiments.harness.published import published
from experiments.harness.results import Results, describe_run
from experiments.harness.run import open_run
from experiments.harness.settings import TimedSettings, make_variants, parse_settings
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.tables import Column, Table, Value, make_table, number
from jaxresnet.train.clock import Diverged

EXPERIMENT = "c2_timing"
SETTINGS = TimedSettings

_SMALL_SHARE = 0.1  # of an epoch's time
_LAB_COLUMNS = {"loading": "data_loading_s", "comp.": "compute_s", "total": "epoch_s"}


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__ or "", arguments)
    variants, measured = make_variants(settings), None
    with open_run(EXPERIMENT, settings) as run:
        run.train(variants)
        if not run.diverged:
            try:
                measured = controls.measure(run, variants[0])
            except Diverged as error:  # many steps on one batch can, where the training did not
                say(run.console, f"no controls: {error}")
        run.finish(variants, partial(report, measured=measured))


def report(results: Results[TimedSettings], measured: controls.Controls | None) -> Report:
    """The labs' tables of times, the controls, and lab-b's logs."""
    first, images = results.series[0], results.dataset.title
    compiled = ", ".join(f"{start['compile']:.1f}" for start in first.starts)
    has_later = results.epochs > 1
    counted = slice(int(has_later), None)  # the first epoch starts tf.data, touches fresh memory
    seconds = results.over_trainings("seconds", counted)
    wait, stall, total = (
        median(results.over_trainings(key, counted))
        for key in ("input_wait", "input_stall", "seconds")
    )
    tables = [_times_table(results)]
    findings = [
        f"Of the {number(total)} s of an epoch the device was idle for lack of input for "
        f"{number(stall)} s ({stall / total:.1%}), and the loop waited {number(wait)} s for data."
    ]
    if has_later:
        start = median(results.over_trainings("seconds", slice(1)))
        findings.append(f"The first epoch, which is not counted here, took {number(start)} s.")
    if measured is not None:
        tables.append(controls.make_controls_table(measured, seconds, images))
        findings.append(controls.describe_bounds(measured, seconds, is_first=not has_later))
    plot = "time_by_epoch.png"
    plot_times(
        results.directory / plot,
        f"{images}: time of each epoch",
        "epoch",
        {
            str(epoch + 1): {
                key: median(results.over_trainings(key, slice(epoch, epoch + 1)))
                for key in TIME_COLUMNS.values()
            }
            for epoch in range(results.epochs)
        },
    )
    logged = images if len(results.series) == 1 else f"{images}, {first.variant.title}"
    return Report(
        "C2: the time of an epoch",
        f"{describe_run(results)} Fed by the {results.settings.loader.title}. Compiling took "
        f"{compiled} s, which is in no epoch's time; nor are evaluation and saving.",
        tables,
        [plot],
        asked="How does the time of an epoch divide into loading data and computing?",
        findings=findings,
        claims=_claims(wait / total),
        details=lab_b_logs(first, logged),
    )


def _claims(here: float) -> list[Claim]:
    """Each lab's share of data loading in loading and computing.

    They agree if both shares are below a tenth, or neither is.
    """
    shares = {
        lab: sum(times["data_loading_s"]) / sum(times["data_loading_s"] + times["compute_s"])
        for lab, times in published()["c2"].items()
    }
    return [
        claim(
            f"{lab}: data loading takes {share:.1%} of loading and computing",
            f"the loop waited for data {here:.1%} of an epoch",
            (share < _SMALL_SHARE) == (here < _SMALL_SHARE),
            "input and device differ",
        )
        for lab, share in shares.items()
    ]


def _times_table(results: Results) -> Table:
    """lab-b's and lab-c's table of seconds by epoch."""
    labs = published()["c2"]
    chosen = {str(epoch + 1): slice(epoch, epoch + 1) for epoch in range(results.epochs)}
    note = (
        "Seconds. Data loading: what the loop was blocked in getting batches (input wait), as "
        "the labs timed it. Input stall: what the device was idle for lack of a batch. "
        "Computation: the total less the stall. Loading that passes while the device computes "
        "costs nothing, so the columns do not add up with data loading. The labs: 2 workers, one "
        f"GPU; lab-c's 5 epochs took {labs['lab-c']['total_s']:.1f} s."
    )
    if results.epochs > 1:
        chosen["but the first"] = slice(1, None)
        note += (
            " The last row: medians of all epochs but the first, which starts tf.data and touches "
            "fresh memory."
        )
    if len(results.series) > 1:
        note += f" Medians of {len(results.series)} trainings; the range in brackets."
    rows = []
    for name, epochs in chosen.items():
        row: dict[str, Value] = {"epoch": name}
        row |= {h: results.over_trainings(key, epochs) for h, key in TIME_COLUMNS.items()}
        for lab, times in labs.items():
            for header, key in _LAB_COLUMNS.items():
                if key in times:
                    values = times[key][epochs]
                    row[f"{lab}\n{header}"] = median(values) if values else None
        rows.append(row)
    columns = [Column[dict[str, Value]](header, itemgetter(header)) for header in rows[0]]
    title = f"Time by epoch: this run ({results.dataset.title}) beside the labs"
    return make_table(title, columns, rows, note)


if __name__ == "__main__":
    run_command(main)
