"""C7: the network without its batch normalisation layers."""

from rich.console import Console

from experiments.command import run_command
from experiments.epoch_report import epoch_table, learning_findings, plot_batches
from experiments.published import published
from experiments.results import Results, describe_protocol
from experiments.runner import run_experiment
from experiments.settings import SeveralSeedsOfOneSettings, parse_settings
from jaxresnet.report.document import Report, write_report

EXPERIMENT = "c7_no_batch_norm"


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SeveralSeedsOfOneSettings, EXPERIMENT, __doc__ or "", arguments)
    run_experiment(EXPERIMENT, settings, report, norm="none")


def report(results: Results, console: Console) -> None:
    """Writes report.md with its plots, and prints the table."""
    c7 = published()["c7"]
    lab_b = {**c7["lab-b"], "top1": [100 * fraction for fraction in c7["lab-b"]["top1"]]}
    labs = {"lab-b": lab_b, "lab-c": c7["lab-c"]}
    report = Report(
        "C7: no batch normalisation",
        f"{describe_protocol(results)} No normalisation layers. The labs trained with SGD.",
        [epoch_table(results, labs)],
        plot_batches(results, labs),
        asked="Take the batch normalisation layers out of ResNet-18: what does training become?",
        findings=learning_findings(results, labs),
    )
    write_report(results.directory, report, console)


if __name__ == "__main__":
    run_command(main)
