"""C7: the network without its batch normalisation layers."""

from dataclasses import dataclass

from experiments.harness.command import run_command
from experiments.harness.learning import report_learning
from experiments.harness.published import published
from experiments.harness.results import Results
from experiments.harness.run import run_experiment
from experiments.harness.settings import SeedsOptions, Settings
from jaxresnet.errors import UserError
from jaxresnet.models.resnet import ModelOptions
from jaxresnet.report.document import Report

EXPERIMENT = "c7_no_batch_norm"


@dataclass(frozen=True)
class BareModelOptions(ModelOptions):
    """The network, without normalisation."""

    def check(self) -> None:
        """Raises UserError for another norm, and as ModelOptions."""
        if self.norm != "none":
            raise UserError(f"--norm is {self.norm}, but C7 trains without: use c1_training")
        super().check()


@dataclass(frozen=True)
class C7Settings(Settings):
    """The published protocol, but for the normalisation."""

    model: ModelOptions = BareModelOptions(norm="none")
    repeated: SeedsOptions = SeedsOptions()


SETTINGS = C7Settings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    run_experiment(EXPERIMENT, __doc__, SETTINGS, report, arguments)


def report(results: Results[C7Settings]) -> Report:
    """The epochs beside both labs', who trained with SGD, and every batch in the plots."""
    labs = ("lab-b", "lab-c") if results.settings.optimizer.optimizer == "sgd" else ()
    return report_learning(
        results,
        {lab: published()["c7"][lab] for lab in labs},
        "C7: no batch normalisation",
        "Take the batch normalisation layers out of ResNet-18: what does training become?",
        "No normalisation layers. The labs trained with SGD.",
    )


if __name__ == "__main__":
    run_command(main)
