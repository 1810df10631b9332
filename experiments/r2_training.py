"""R2: train ResNet-152 on ImageNet; loss, top-1 and top-5, images per second, memory."""

from experiments.harness.batch_size_findings import EPOCH_IMAGES, a6000_minutes
from experiments.harness.claims import claim
from experiments.harness.command import run_command
from experiments.harness.epochs import Group, epoch_table, plot_learning
from experiments.harness.results import Results, describe_run
from experiments.harness.run import run_experiment
from experiments.harness.talk_settings import PROTOCOL_NOTE, TalkSettings
from jaxresnet.options import plural
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.tables import Column, Table, make_table
from jaxresnet.train.figures import Record

EXPERIMENT = "r2_training"
SETTINGS = TalkSettings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    run_experiment(EXPERIMENT, __doc__, SETTINGS, report, arguments)


def report(results: Results[TalkSettings]) -> Report:
    """How it learned, and how fast, beside the talk's epoch."""
    (series,) = results.series
    group, last = Group("this run", results.series, {}), series.epochs[-1]
    by = "epoch" if results.epochs > 1 else "batch"
    accuracy = f"top-1 {last['test_top1']:.1%}"
    if "test_top5" in last:
        accuracy += f" and top-5 {last['test_top5']:.1%}"
    images, seconds = series.total("images"), series.total("seconds")
    stall = series.total("input_stall") / seconds
    return Report(
        f"R2: training {results.settings.model.model}",
        f"{describe_run(results)} {PROTOCOL_NOTE}",
        [epoch_table(results, [group]), _speed_table(results)],
        plot_learning(results, [group], by),
        asked="Train ResNet-152 on ImageNet: what does it learn, how fast, and in what memory?",
        findings=[
            f"After {plural(results.epochs, 'epoch')} the training loss was {last['loss']:.3f} and "
            f"top-1 {last['top1']:.1%}; on the evaluation images {accuracy}.",
            f"{images / seconds:,.1f} images/s; the device waited for input {stall:.2%} of the "
            "time.",
        ],
        claims=[_compare_speed(results, images / seconds)],
        publisher=results.settings.protocol.authors,
    )


def _speed_table(results: Results[TalkSettings]) -> Table:
    columns = [
        Column[Record]("epoch", lambda row: str(row["epoch"] + 1)),
        Column[Record]("time", lambda row: row["seconds"], 1),
        Column[Record]("images/s", lambda row: row["images"] / row["seconds"], 1),
        Column[Record]("input\nwait", lambda row: row["input_wait"], 2),
        Column[Record]("input\nstall", lambda row: row["input_stall"], 2),
        Column[Record]("stall\n(%)", lambda row: row["input_stall"] / row["seconds"], 2, 100),
        Column[Record]("compute", lambda row: row["compute"], 1),
        Column[Record]("peak\nMiB", lambda row: row["peak_memory"], 0),
    ]
    sizes = [start["step_memory"] for start in results.series[0].starts if start["step_memory"]]
    needs = " and ".join(dict.fromkeys(f"{size:,.0f} MiB" for size in sizes)) or "what is unknown"
    note = (
        f"Times in seconds. Peak: of memory, so far. By the compiler a step needs {needs}: "
        "arguments, results and what lies between."
    )
    title = f"Speed and memory ({results.dataset.title})"
    return make_table(title, columns, results.series[0].epochs, note)


def _compare_speed(results: Results[TalkSettings], rate: float) -> Claim:
    """Of the talk's epoch at the same batch size; another device is no agreement or difference."""
    size, epoch = results.settings.training.batch_size, "no time published"
    if minutes := a6000_minutes().get(size):
        epoch = f"{minutes:.0f} min an epoch, {EPOCH_IMAGES / minutes / 60:,.1f} images/s"
    return claim(
        f"batch size {size} on an RTX A6000: {epoch}",
        f"{EPOCH_IMAGES / rate / 60:,.0f} min for {EPOCH_IMAGES:,} images, {rate:,.1f} images/s",
        None,
        f"times depend on the device; this is {results.starts('machine')}",
    )


if __name__ == "__main__":
    run_command(main)
