"""C1: train ResNet-18 on CIFAR-10 with one optimizer; loss and top-1 of every batch."""

from rich.console import Console

from experiments.command import run_command
from experiments.epoch_report import epoch_table, plot_batches
from experiments.published import published
from experiments.results import Results, describe_protocol
from experiments.runner import run_experiment
from experiments.settings import SingleSettings, parse_settings
from jaxresnet.report.document import write_report

EXPERIMENT = "c1_training"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SingleSettings, EXPERIMENT, __doc__ or "", arguments)
    run_experiment(EXPERIMENT, settings, report)


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plots, and prints the table."""
    (series,) = results.series
    lab_c = published()["c6"]["lab-c"]
    labs = {"lab-c": lab_c[series.name]} if series.name in lab_c else {}
    write_report(
        results.directory,
        f"C1: training with {series.label}",
        f"{describe_protocol(results)} The loss and top-1 of each batch are in steps.jsonl.",
        [epoch_table(results, labs)],
        plot_batches(results, labs),
        console,
    )


if __name__ == "__main__":
    run_command(main)
