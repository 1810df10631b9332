"""C4: one input worker against the best number of C3: waiting, stalling and computing."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from experiments.command import run_command, say
from experiments.loader_times import BEST, best_number, check_workers, time_loader
from experiments.published import published
from experiments.results import Results, Series, describe_protocol
from experiments.run_directory import find_runs, read_identity
from experiments.runner import Run, open_run
from experiments.settings import RepeatSettings, TimedSettings, at_least, parse_settings
from experiments.variants import workers_words
from jaxresnet.report.document import Report, write_report
from jaxresnet.report.plots import plot_stacked_bars
from jaxresnet.report.tables import MISSING, Table, median_and_range, number, plural, signed
from jaxresnet.train.metrics import write_json
from jaxresnet.train.trace import trace_steps

EXPERIMENT = "c4_profiling"

_CHOICE, _TRACE = "choice.json", "trace"
# The settings of a C3 run whose best number of workers is this experiment's too.
_SAME = (
    "device", "data fingerprint", "--batch-size", "--model", "--width", "--dtype", "--prefetch",
    "--sync-each-step",
)  # fmt: skip


@dataclass(frozen=True)
class ProfilingSettings(RepeatSettings):
    """What is compared."""

    repeats: int = 3
    """Train so many times with each number of workers, in turn; medians are reported."""
    best: int | None = None
    """The number of workers to compare 1 with. None: the best of the newest c3_workers run with
    the same images and settings; without one, the loader is timed here first."""
    trace: bool = False
    """Leave a profiler's trace of a few steps in trace/."""


@dataclass(frozen=True)
class C4Settings(TimedSettings):
    timing: ProfilingSettings = ProfilingSettings()


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(C4Settings, EXPERIMENT, __doc__ or "", arguments)
    check_workers(settings.data, ())
    at_least("--best", settings.timing.best, 0)
    with open_run(EXPERIMENT, settings) as run:
        best, origin = _choose_best(run, settings.timing)
        say(run.console, f"best number of workers: {best} ({origin})")
        variants = settings.variants_with(list(dict.fromkeys([1, best])))
        run.train(variants)
        if settings.timing.trace and not (run.directory / _TRACE).exists():
            training = run.training(variants[-1])
            programs = run.compiler(variants[-1])(training, training.initial_state)
            unfinished = run.directory / "trace.tmp"
            steps = trace_steps(training, programs, unfinished)
            unfinished.rename(run.directory / _TRACE)
            say(run.console, f"trace of {plural(steps, 'step')}: {run.directory / _TRACE}")
        run.finish(variants, lambda results, console: report(results, best, origin, console))


def _choose_best(run: Run, timing: ProfilingSettings) -> tuple[int, str]:
    """The number of workers and where it comes from; chosen once for a run."""
    path = run.directory / _CHOICE
    if path.exists():
        choice = json.loads(path.read_text(encoding="utf-8"))
        return choice["best"], choice["origin"]
    best, origin = timing.best, "--best"
    if best is None:
        best, origin = _best_of_c3(run.directory)
    if best is None:
        times = time_loader(run, (), timing.repeats)
        best = best_number({workers: values[1:] for workers, values in times.items()})
        origin = "the loader alone, timed here"
    write_json(path, {"best": best, "origin": origin})
    return best, origin


def _best_of_c3(directory: Path) -> tuple[int | None, str]:
    """While training if that was timed, else of the loader alone."""
    ours = read_identity(directory) or {}
    roots = (directory.parent, Path("runs"))  # beside it, where all experiments were run together
    for run in (run for root in roots for run in find_runs(root / "c3_workers", "c3_workers")):
        theirs = read_identity(run) or {}
        alike = all(ours.get(name) == theirs.get(name) for name in _SAME)
        if alike and (run / BEST).exists():
            best = json.loads((run / BEST).read_text(encoding="utf-8"))
            return best.get("training", best.get("loader")), str(run)
    return None, ""


def report(results: Results, best: int, origin: str, console: Console) -> None:
    """Writes report.md with its plot, and prints the table."""
    groups: dict[int, list[Series]] = {}
    for series in results.series:
        groups.setdefault(int(series.variant.workers), []).append(series)
    protocol = describe_protocol(results)
    introduction = f"{protocol} The best number of workers is {best}, by {origin}."
    if (results.directory / _TRACE).exists():
        introduction += f" A profiler's trace of a few steps is in the run's {_TRACE}/."
    write_report(
        results.directory,
        Report(
            "C4: one worker against the best number",
            introduction,
            [_table(groups, results)],
            [_plot(groups, results)],
            asked="Where does the time go with one input worker, and with the best number of them?",
            findings=_findings(groups, best),
        ),
        console,
    )


def _sums(group: list[Series], key: str) -> list[float]:
    return [sum(series.values(key)) for series in group]


def _table(groups: dict[int, list[Series]], results: Results) -> Table:
    rows = [
        [
            workers_words(workers),
            *(
                median_and_range(_sums(group, key), number)
                for key in ("input_wait", "input_stall", "compute", "seconds")
            ),
            median_and_range([series.values("seconds")[0] for series in group], number),
            median_and_range(
                [value for series in group for value in series.values("seconds")[1:]], number
            )
            if results.settings.training.epochs > 1
            else MISSING,
        ]
        for workers, group in groups.items()
    ]
    for lab, figures in published()["c4"].items():
        totals = figures.get("total_s", [None] * len(figures["workers"]))
        for workers, wait, compute, total in zip(
            figures["workers"], figures["data_loading_s"], figures["compute_s"], totals, strict=True
        ):
            row = [f"  {lab}, {workers}", number(wait), MISSING, number(compute), number(total)]
            rows.append([*row, MISSING, MISSING])
    epochs = results.settings.training.epochs
    note = (
        f"Seconds; total: of {plural(epochs, 'epoch')} (lab-b: 5, lab-c: 1); the last two columns: "
        "of one. Medians over the repeats with the least and the greatest. Data loading that "
        "passes while the device computes costs nothing: total = stall + computation."
    )
    columns = [
        "", "data loading", "input stall", "com-\nputation", "total", "first epoch",
        "later epochs",
    ]  # fmt: skip
    return Table(f"This run ({results.dataset.words}) beside the labs", columns, rows, note)


def _findings(groups: dict[int, list[Series]], best: int) -> list[str]:
    """What the number of workers changed, and whether more than chance."""

    def typical(workers: int, key: str) -> float:
        return median(_sums(groups[workers], key))

    wait, stall, total = (typical(1, key) for key in ("input_wait", "input_stall", "seconds"))
    found = [
        f"With 1 worker the loop waited {number(wait)} s for data, and the device stood idle for "
        f"{number(stall)} of {number(total)} s ({stall / total:.1%})."
    ]
    if best == 1:
        return [*found, "That is the best number here: there is nothing to compare it with."]
    if best not in groups:
        return [*found, f"The training with {best} did not end."]
    better = typical(best, "seconds")
    stall_change, compute_change = (
        typical(best, key) - typical(1, key) for key in ("input_stall", "compute")
    )
    found.append(
        f"With {best} it waited {number(typical(best, 'input_wait'))} s, and the whole took "
        f"{number(better)} s, {better / total:.3f} of the time: the stall changed by "
        f"{signed(stall_change)} s, the computation by {signed(compute_change)} s."
    )
    totals = [_sums(group, "seconds") for group in groups.values()]
    if min(len(values) for values in totals) == 1:
        return [*found, "Without repeats chance cannot be told from a difference."]
    spread = max(max(values) - min(values) for values in totals)
    if abs(better - total) <= spread:
        why = "no more than equal trainings differ, so the workers make no difference here"
    elif abs(stall_change) > abs(compute_change):
        why = "more than equal trainings differ, and most of it is waiting for input"
    else:
        why = "more than equal trainings differ, and most of it is computation, not input"
    return [*found, f"That is {why} ({number(spread)} s)."]


def _plot(groups: dict[int, list[Series]], results: Results) -> str:
    name = "time_by_workers.png"
    plot_stacked_bars(
        results.directory / name,
        f"{results.dataset.words}: {plural(results.settings.training.epochs, 'epoch')}",
        [f"{workers}" for workers in groups],
        "input workers",
        "seconds",
        {
            "computation": [median(_sums(group, "compute")) for group in groups.values()],
            "input stall": [median(_sums(group, "input_stall")) for group in groups.values()],
        },
    )
    return name


if __name__ == "__main__":
    run_command(main)
