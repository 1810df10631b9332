"""C4: one input worker against the best number of C3: waiting, stalling and computing."""

from dataclasses import dataclass
from functools import partial
from statistics import median

from experiments.harness.best_workers import choose_best
from experiments.harness.claims import claim
from experiments.harness.command import run_command, say
from experiments.harness.epoch_times import TIME_COLUMNS, plot_times, training_times
from experiments.harness.loader_times import check_workers
from experiments.harness.published import published
from experiments.harness.results import Results, Series, describe_run
from experiments.harness.run import open_run
from experiments.harness.settings import RepeatOptions, TimedSettings, make_variants, parse_settings
from jaxresnet.data.loaders import describe_workers
from jaxresnet.options import plural, unpublished
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.tables import Column, Table, Value, make_table, number, signed
from jaxresnet.train.training import trace_steps

EXPERIMENT = "c4_profiling"

_TRACE = "trace"
_LAB_COLUMNS = {
    "data\nloading": "data_loading_s",
    "com-\nputation": "compute_s",
    "total": "total_s",
}

# By the number of workers: the trainings, and the medians of their totals.
Groups = dict[int, list[Series]]
Typical = dict[int, dict[str, float]]


@dataclass(frozen=True)
class ProfilingOptions(RepeatOptions):
    """What is compared."""

    repeats: int = unpublished(3, affects="result", at_least=1)
    """Train so many times with each number of workers, in turn; medians are reported."""
    best: int | None = unpublished(None, affects="result", at_least=0)
    """The number of workers to compare 1 with. None: the best of the newest c3_workers run with
    the same images and settings; without one, the loader is timed here first."""
    trace: bool = unpublished(False, affects="nothing")
    """Leave a profiler's trace of a few steps in trace/."""


@dataclass(frozen=True)
class C4Settings(TimedSettings):
    timing: ProfilingOptions = ProfilingOptions()


SETTINGS = C4Settings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__ or "", arguments)
    check_workers(settings.loader)
    with open_run(EXPERIMENT, settings) as run:
        best, origin = choose_best(run, settings.timing.best, settings.timing.repeats)
        say(run.console, f"best number of workers: {best} ({origin})")
        variants = make_variants(settings, workers=list(dict.fromkeys([1, best])))
        run.train(variants)
        if settings.timing.trace and not (run.directory / _TRACE).exists():
            training = run.training(variants[-1])
            programs = run.compile(training, training.initial_state)
            unfinished = run.directory / "trace.tmp"
            steps = trace_steps(training, programs, unfinished)
            unfinished.rename(run.directory / _TRACE)
            say(run.console, f"trace of {plural(steps, 'step')}: {run.directory / _TRACE}")
        run.finish(variants, partial(report, best=best, origin=origin))


def report(results: Results[C4Settings], best: int, origin: str) -> Report:
    """Both numbers' times beside the labs'."""
    groups = results.by("workers")
    keys = TIME_COLUMNS.values()
    typical = {
        workers: {key: median(series.total(key) for series in group) for key in keys}
        for workers, group in groups.items()
    }
    introduction = f"{describe_run(results)} The best number of workers is {best}, by {origin}."
    if (results.directory / _TRACE).exists():
        introduction += f" A profiler's trace of a few steps is in the run's {_TRACE}/."
    plot = "time_by_workers.png"
    plot_times(
        results.directory / plot,
        f"{results.dataset.title}: {plural(results.epochs, 'epoch')}",
        "input workers",
        {str(workers): times for workers, times in typical.items()},
    )
    return Report(
        "C4: one worker against the best number",
        introduction,
        [_table(groups, results)],
        [plot],
        asked="Where does the time go with one input worker, and with the best number of them?",
        findings=_findings(groups, typical, best),
        claims=_claims(typical, best),
    )


def _table(groups: Groups, results: Results) -> Table:
    rows: list[dict[str, Value]] = []
    for workers, group in groups.items():
        later = [seconds for series in group for seconds in series.values("seconds")[1:]]
        times = {**training_times(group), "later epochs": later}
        rows.append({"": describe_workers(workers), **times})
    columns = [Column[dict[str, Value]](h, lambda row, h=h: row.get(h)) for h in rows[0]]
    for lab, figures in published()["c4"].items():
        for index, workers in enumerate(figures["workers"]):
            times = {
                header: figures[key][index]
                for header, key in _LAB_COLUMNS.items()
                if key in figures
            }
            rows.append({"": f"  {lab}, {workers}", **times})
    note = (
        f"Seconds; total: of {plural(results.epochs, 'epoch')} (lab-b: 5, lab-c: 1); the last two "
        "columns: of one. Medians over the repeats with the least and the greatest. Data loading "
        "that passes while the device computes costs nothing: total = stall + computation."
    )
    return make_table(f"This run ({results.dataset.title}) beside the labs", columns, rows, note)


def _findings(groups: Groups, typical: Typical, best: int) -> list[str]:
    """What the number of workers changed, and whether more than chance."""
    before = typical[1]
    sentences = [
        f"With 1 worker the loop waited {number(before['input_wait'])} s for data, and the device "
        f"stood idle for {number(before['input_stall'])} of {number(before['seconds'])} s "
        f"({before['input_stall'] / before['seconds']:.1%})."
    ]
    if best == 1:
        return [*sentences, "That is the best number here: there is nothing to compare it with."]
    if best not in groups:
        return [*sentences, f"The training with {best} did not end."]
    after = typical[best]
    change = {key: after[key] - before[key] for key in after}
    sentences.append(
        f"With {best} it waited {number(after['input_wait'])} s, and the whole took "
        f"{number(after['seconds'])} s, {after['seconds'] / before['seconds']:.3f} of the time: "
        f"the stall changed by {signed(change['input_stall'])} s, the computation by "
        f"{signed(change['compute'])} s."
    )
    totals = [[series.total("seconds") for series in group] for group in groups.values()]
    if min(map(len, totals)) == 1:
        return [*sentences, "Without repeats chance cannot be told from a difference."]
    spread = max(max(times) - min(times) for times in totals)
    if abs(change["seconds"]) <= spread:
        why = "no more than equal trainings differ, so the workers make no difference here"
    elif abs(change["input_stall"]) > abs(change["compute"]):
        why = "more than equal trainings differ, and most of it is waiting for input"
    else:
        why = "more than equal trainings differ, and most of it is computation, not input"
    return [*sentences, f"That is {why} ({number(spread)} s)."]


def _claims(typical: Typical, best: int) -> list[Claim]:
    """lab-c's total, which its best number changed by 3%.

    They agree if here too the best number changes the total by less than a tenth.
    """
    one_worker, best_number = published()["c4"]["lab-c"]["total_s"]
    sentence = f"lab-c: the best number changes the total by {best_number / one_worker - 1:+.1%}"
    if best not in typical or best == 1:
        return [claim(sentence, f"best is {best}", None, "there is nothing to compare with")]
    change = typical[best]["seconds"] / typical[1]["seconds"] - 1
    return [claim(sentence, f"{change:+.1%}", abs(change) < 0.1, "input bounds this training")]


if __name__ == "__main__":
    run_command(main)
