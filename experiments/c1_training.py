"""C1: train ResNet-18 on CIFAR-10 with one optimizer; loss and top-1 of every batch."""

from rich.console import Console

from experiments.command import run_command
from experiments.epoch_report import epoch_table, learning_findings, plot_batches
from experiments.published import published
from experiments.results import Results, describe_protocol
from experiments.runner import run_experiment
from experiments.settings import SingleSettings, parse_settings
from jaxresnet.report.document import Report, write_report

EXPERIMENT = "c1_training"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SingleSettings, EXPERIMENT, __doc__ or "", arguments)
    run_experiment(EXPERIMENT, settings, report)


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plots, and prints the table."""
    (series,) = results.series
    lab_c = published()["c6"]["lab-c"]
    name = series.variant.optimizer
    labs = {"lab-c": lab_c[name]} if name in lab_c else {}
    report = Report(
        f"C1: training with {series.label}",
        f"{describe_protocol(results)} The loss and top-1 of each batch are in steps.jsonl.",
        [epoch_table(results, labs)],
        plot_batches(results, labs),
        asked="Train ResNet-18 on CIFAR-10, and report the loss and top-1 of every batch.",
        findings=learning_findings(results, labs),
    )
    write_report(results.directory, report, console)


if __name__ == "__main__":
    run_command(main)
