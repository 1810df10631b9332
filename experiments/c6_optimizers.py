"""C6: the same network trained with five optimizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from statistics import fmean
from typing import Annotated

from experiments.harness.claims import OTHER_PROTOCOL, claim
from experiments.harness.command import run_command
from experiments.harness.epochs import Group, epoch_table, plot_learning, seeds_note
from experiments.harness.published import published
from experiments.harness.results import Results, Series, describe_run, protocol_departures
from experiments.harness.run import run_experiment
from experiments.harness.settings import SeedsOptions, Settings
from jaxresnet.optim import OPTIMIZERS
from jaxresnet.options import one_of, plural, unpublished
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.tables import MISSING, Column, Table, Value, make_table, mean_and_deviation

EXPERIMENT = "c6_optimizers"

_PUBLISHED = ("sgd", "nesterov", "adagrad", "adadelta", "adam")

# Title, learning rate, and figures by name.
Row = tuple[str, str, dict[str, Value]]


@dataclass(frozen=True)
class SweepOptions:
    """What is compared."""

    optimizers: tuple[Annotated[str, one_of(OPTIMIZERS, "optimizer")], ...] = unpublished(
        _PUBLISHED, affects="result", varies="optimizer"
    )
    """Which to train with, one after the other."""


@dataclass(frozen=True)
class C6Settings(Settings):
    compared: SweepOptions = SweepOptions()
    repeated: SeedsOptions = SeedsOptions()


SETTINGS = C6Settings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    run_experiment(EXPERIMENT, __doc__, SETTINGS, report, arguments)


def report(results: Results[C6Settings]) -> Report:
    """A row for each optimizer beside both labs', and its curves beside lab-c's."""
    lab_c = published()["c6"]["lab-c"]
    groups = {
        name: Group(OPTIMIZERS[name].title, series, {"lab-c": lab_c[name]} if name in lab_c else {})
        for name, series in results.by("optimizer").items()
    }
    losses = {name: fmean(g.values("loss", results.epochs - 1)) for name, g in groups.items()}
    lab_c_losses = {name: loss for name, loss in _lab_losses()["lab-c"].items() if name in groups}
    times = [fmean(s.mean("seconds") for s in group.series) for group in groups.values()]
    extremes = (min(times), max(times))
    return Report(
        f"C6: {plural(len(groups), 'optimizer')}",
        describe_run(results),
        [_table(results, groups)],
        plot_learning(results, list(groups.values()), "epoch"),
        asked="Train the same network with several optimizers: which learns fastest, and at what "
        "cost?",
        findings=[
            f"By the training loss of the last epoch: {_ranking(losses)}.",
            f"lab-c, after 5 epochs: {_ranking(lab_c_losses)}." if lab_c_losses else "",
            f"An epoch took {' to '.join(dict.fromkeys(f'{t:.1f}' for t in extremes))} s.",
        ],
        claims=_claims(results, losses),
        details=[epoch_table(results, list(groups.values()))],
    )


def _ranking(losses: dict[str, float]) -> str:
    """From the least loss to the greatest."""
    ranked = sorted(losses.items(), key=itemgetter(1))
    return "; ".join(f"{OPTIMIZERS[name].title} {loss:.3f}" for name, loss in ranked)


def _lab_losses() -> dict[str, dict[str, float]]:
    """By lab and optimizer, the last that was published."""
    labs = published()["c6"]
    return {
        "lab-c": {name: figures["loss"][-1] for name, figures in labs["lab-c"].items()},
        "lab-b": {name: figures["loss"] for name, figures in labs["lab-b"].items()},
    }


def _claims(results: Results[C6Settings], losses: dict[str, float]) -> list[Claim]:
    """The labs' first and last optimizer by the loss, where all five were trained.

    They agree if the same one has the least, or the greatest, loss here; it cannot be said unless
    the run follows the published protocol.
    """
    losses = {name: loss for name, loss in losses.items() if name in _PUBLISHED}
    if not losses:
        return []
    departed = protocol_departures(results.settings, results.dataset)
    complete, claims = len(losses) == len(_PUBLISHED), []
    reason = "not all five were trained" if not complete else OTHER_PROTOCOL if departed else ""
    reasons = {
        "lab-c": "an order by one seed is partly chance",
        "lab-b": "lab-b's Adam cannot have run at rate 0.1: see --protocol defaults",
    }
    for lab, lab_losses in _lab_losses().items():
        for what, pick in (("least", min), ("greatest", max)):
            published_best, best = (pick(x, key=x.__getitem__) for x in (lab_losses, losses))
            claims.append(
                claim(
                    f"{lab}: {OPTIMIZERS[published_best].title} has the {what} loss",
                    f"{OPTIMIZERS[best].title} has it" if complete else MISSING,
                    None if departed or not complete else best == published_best,
                    reason or reasons[lab],
                )
            )
    return claims


def _table(results: Results[C6Settings], groups: dict[str, Group]) -> Table:
    """A row for this run and one for each lab that published figures, by optimizer."""
    labs = published()["c6"]
    rows: list[Row] = []
    for name, group in groups.items():
        rows.append((group.title, f"{group.series[0].learning_rate:g}", _own_figures(group.series)))
        if name in labs["lab-b"]:
            rows.append(("  lab-b", "-", labs["lab-b"][name]))
            loss, top1 = (labs["lab-c"][name][key] for key in ("loss", "top1"))
            figures = {
                "loss": fmean(loss),
                "final_loss": loss[-1],
                "top1": fmean(top1),
                "final_top1": top1[-1],
                "best": labs["lab-c"][name]["best"],
            }
            rows.append(("  lab-c", "0.1", figures))

    def figure(header: str, key: str, digits: int = 1, scale: float = 1) -> Column[Row]:
        return Column(header, lambda row: row[2].get(key), digits, scale)

    columns: list[Column[Row]] = [
        Column("optimizer", lambda row: row[0]),
        Column("rate", lambda row: row[1]),
        figure("epoch\ntime", "epoch_s"),
        figure("input\nwait", "input_wait"),
        figure("input\nstall", "input_stall"),
        figure("com-\npute", "compute"),
        figure("mean\nloss", "loss", 3),
        figure("final\nloss", "final_loss", 3),
        figure("mean\ntop-1", "top1", scale=100),
        figure("final\ntop-1", "final_top1", scale=100),
        figure("best\ntop-1", "best", scale=100),
        figure("test\ntop-1", "test_top1", scale=100),
    ]
    note = (
        "Times are seconds per epoch, averaged; top-1 is in per cent. Mean: over the epochs; "
        "final: the last epoch; best: the highest that an epoch's running top-1 stood at after "
        "any batch, as lab-c has it; test: after the last epoch, on "
        f"{len(results.dataset.test):,} images. lab-b and lab-c trained for 5 epochs of all 50,000 "
        "CIFAR-10 images, in PyTorch on a GPU. lab-b's Adam cannot have run at rate 0.1 (compare "
        "lab-c's): --protocol defaults gives each optimizer its usual rate."
        f"{seeds_note(list(groups.values()))}"
    )
    title = f"This run ({results.dataset.title}) beside the published figures"
    return make_table(title, columns, rows, note, mean_and_deviation)


def _own_figures(group: Sequence[Series]) -> dict[str, Value]:
    """Of the trainings with one optimizer, a value for each seed."""
    averaged = ("input_wait", "input_stall", "compute", "loss", "top1")
    last = [series.epochs[-1] for series in group]
    return {
        **{key: [series.mean(key) for series in group] for key in averaged},
        "epoch_s": [series.mean("seconds") for series in group],
        "final_loss": [epoch["loss"] for epoch in last],
        "final_top1": [epoch["top1"] for epoch in last],
        "best": [max(series.values("best_top1")) for series in group],
        "test_top1": [epoch["test_top1"] for epoch in last],
    }


if __name__ == "__main__":
    run_command(main)
