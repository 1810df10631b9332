"""C1: train ResNet-18 on CIFAR-10 with one optimizer; loss and top-1 of every batch."""

from experiments.harness.command import run_command
from experiments.harness.learning import report_learning
from experiments.harness.published import published
from experiments.harness.results import Results
from experiments.harness.run import run_experiment
from experiments.harness.settings import Settings
from jaxresnet.report.document import Report

EXPERIMENT = "c1_training"
SETTINGS = Settings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    run_experiment(EXPERIMENT, __doc__, SETTINGS, report, arguments)


def report(results: Results[Settings]) -> Report:
    """The epochs beside lab-c's, and every batch in the plots."""
    optimizer = results.settings.optimizer
    lab_c = published()["c6"]["lab-c"].get(optimizer.optimizer)
    return report_learning(
        results,
        {"lab-c": lab_c} if lab_c else {},
        f"C1: training with {optimizer.entry.title}",
        "Train ResNet-18 on CIFAR-10, and report the loss and top-1 of every batch.",
        "The loss and top-1 of each batch are in steps.jsonl.",
    )


if __name__ == "__main__":
    run_command(main)
