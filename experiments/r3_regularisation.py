"""R3: what regularisers do to the gap between training and validation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Annotated, Any, NamedTuple

import numpy as np

from experiments.harness.claims import claim
from experiments.harness.command import run_command
from experiments.harness.epochs import Group, epoch_table, seeds_note
from experiments.harness.results import Results, describe_run
from experiments.harness.run import open_run
from experiments.harness.settings import SeedsOptions, Variant, make_variants, parse_settings
from experiments.harness.talk_settings import TalkSettings
from jaxresnet.errors import UserError
from jaxresnet.optim import OptimizerOptions
from jaxresnet.options import one_of, option, options_of, plural, replace_options, unpublished
from jaxresnet.report.document import Claim, Report
from jaxresnet.report.plots import Curve, plot_curves
from jaxresnet.report.tables import MISSING, Column, Table, make_table, mean_and_deviation
from jaxresnet.train.figures import BY_NAME

EXPERIMENT = "r3_regularisation"

# By its name on the command line: what people call it, and the options that it sets.
REGULARISERS: dict[str, tuple[str, Callable[["RegulariserOptions"], dict[str, Any]]]] = {
    "none": ("none", lambda _: {}),
    "l1": ("L1", lambda options: {"l1": options.l1_strength}),
    "l2": ("L2", lambda options: {"l2": options.l2_strength}),
    "dropout0.2": ("dropout 0.2", lambda _: {"dropout": 0.2}),
    "dropout0.5": ("dropout 0.5", lambda _: {"dropout": 0.5}),
    "l2-dropout0.5": (
        "L2 and dropout 0.5",
        lambda options: {"l2": options.l2_strength, "dropout": 0.5},
    ),
}
_NONE = "none"
_ERRORS = 2  # standard errors of a difference, beyond which it is taken for more than chance


@dataclass(frozen=True)
class RegulariserOptions:
    """What is compared."""

    regularisers: tuple[Annotated[str, one_of(REGULARISERS, "regulariser")], ...] = unpublished(
        tuple(REGULARISERS), affects="result", distinct=True
    )
    """Which to train with, one after the other."""
    l1_strength: float = option(
        1e-5, affects="result", published=False, says="L1 times {:g}", always=True, above=0
    )
    """What L1 multiplies the sum of absolute values by."""
    l2_strength: float = option(
        5e-4, affects="result", published=False, says="L2 times {:g}", always=True, above=0
    )
    """What L2 multiplies half the sum of squares by."""

    def check(self) -> None:
        """Raises UserError if nothing is left to train with."""
        if not self.regularisers:
            raise UserError("--regularisers needs at least one name")


@dataclass(frozen=True)
class R3Settings(TalkSettings):
    """Without weight decay, which is L2 by another name."""

    optimizer: OptimizerOptions = OptimizerOptions(schedule="step", weight_decay=0.0)
    compared: RegulariserOptions = RegulariserOptions()
    repeated: SeedsOptions = SeedsOptions()


SETTINGS = R3Settings


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the experiment."""
    settings = parse_settings(SETTINGS, EXPERIMENT, __doc__, arguments)
    _check_unset(settings)
    with open_run(EXPERIMENT, settings) as run:
        names = settings.compared.regularisers
        variants = [variant for name in names for variant in _with(name, settings)]
        run.train(variants)
        run.finish(variants, report)


def _check_unset(settings: R3Settings) -> None:
    """Raises UserError for an option that the regularisers set."""
    for given in options_of(settings):
        if given.name in ("l1", "l2", "dropout") and given.value:
            raise UserError(
                f"{given.flag} is {given.value}, but R3 trains with and without: leave it out, and "
                "choose with --regularisers, --l1-strength and --l2-strength"
            )


def _with(name: str, settings: R3Settings) -> list[Variant]:
    """The trainings with a regulariser: one for each seed."""
    title, replaced = REGULARISERS[name]
    own = replace_options(settings, **replaced(settings.compared))
    return [
        Variant(f"{name}-seed{v.value('seed')}", f"{title}, seed {v.value('seed')}", v.settings)
        for v in make_variants(own)
    ]


def report(results: Results[R3Settings]) -> Report:
    """A row for each regulariser, its gaps by epoch, and what the talk says of them."""
    groups = {
        name: Group(
            REGULARISERS[name][0],
            [s for s in results.series if s.variant.series.startswith(f"{name}-seed")],
            {},
        )
        for name in results.settings.compared.regularisers
    }
    groups = {name: group for name, group in groups.items() if group.series}
    last = results.epochs - 1
    losses = {group.title: fmean(_gaps(group, "loss", last)) for group in groups.values()}
    accuracies = {g.title: fmean(g.values("test_top1", last)) for g in groups.values()}
    narrowest, widest = (pick(losses, key=losses.__getitem__) for pick in (min, max))
    best = max(accuracies, key=accuracies.__getitem__)
    return Report(
        "R3: regularisation",
        describe_run(results),
        [_table(results, list(groups.values()))],
        [_plot(results, list(groups.values()), figure) for figure in ("loss", "top1")],
        asked="The talk adds L1, L2 or dropout against overfitting: what does each do to the gap "
        "between training and validation?",
        findings=[
            f"After {plural(results.epochs, 'epoch')} the validation loss is above the training "
            f"loss by {losses[widest]:.3f} with {widest} and by {losses[narrowest]:.3f} with "
            f"{narrowest}; validation top-1 is highest with {best}, {accuracies[best]:.1%}."
        ],
        claims=_claims(results, groups),
        details=[epoch_table(results, list(groups.values()))],
    )


def _gaps(group: Group, figure: str, epoch: int) -> list[float]:
    """By how much validation is worse than training, for each seed."""
    pairs = zip(group.values(f"test_{figure}", epoch), group.values(figure, epoch), strict=True)
    sign = 1 if figure == "loss" else -1
    return [sign * (test - train) for test, train in pairs]


def _table(results: Results[R3Settings], groups: Sequence[Group]) -> Table:
    last = results.epochs - 1

    def figure(header: str, name: str, digits: int, scale: float = 1) -> Column[Group]:
        return Column(header, lambda group: group.values(name, last), digits, scale)

    columns = [
        Column[Group]("regulariser", lambda group: group.title),
        figure("training\nloss", "loss", 3),
        figure("validation\nloss", "test_loss", 3),
        Column[Group]("gap", lambda group: _gaps(group, "loss", last), 3),
        figure("training\ntop-1", "top1", 1, 100),
        figure("validation\ntop-1", "test_top1", 1, 100),
        Column[Group]("gap", lambda group: _gaps(group, "top1", last), 1, 100),
    ]
    note = (
        "After the last epoch; top-1 in per cent. Training: over the epoch's steps, as training "
        "sees it, with augmentation and dropout and without the terms of L1 and L2. Gap: by how "
        f"much validation is worse.{seeds_note(groups)}"
    )
    title = f"Regularisers ({results.dataset.title})"
    return make_table(title, columns, groups, note, mean_and_deviation)


def _plot(results: Results[R3Settings], groups: Sequence[Group], figure: str) -> str:
    """The gap of each epoch: the mean over the seeds, in a band of the deviation."""
    name, epochs = f"gap_{figure}.png", range(results.epochs)
    scale = BY_NAME[figure].scale
    curves = []
    for number, group in enumerate(groups):
        values = scale * np.array([_gaps(group, figure, epoch) for epoch in epochs])
        deviations = values.std(1, ddof=1).tolist() if values.shape[1] > 1 else None
        x = [epoch + 1 for epoch in epochs]
        curves.append(Curve(group.title, values.mean(1).tolist(), number, False, x, deviations))
    what = {"loss": "validation loss - training loss", "top1": "training - validation top-1 (%)"}
    plot_curves(
        results.directory / name,
        f"{results.dataset.title}: the gap between training and validation",
        "epoch",
        what[figure],
        curves,
        seeds_note(groups).strip(),
    )
    return name


class Difference(NamedTuple):
    """Of two means, with its standard error over the seeds."""

    mean: float
    error: float

    @property
    def counts(self) -> bool:
        """Whether it is above zero by more than chance."""
        return self.mean > _ERRORS * self.error

    def show(self, scale: float, digits: int) -> str:
        return f"{scale * self.mean:+.{digits}f} ± {scale * self.error:.{digits}f}"


def _difference(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """None with fewer than two seeds."""
    if min(len(first), len(second)) < 2:
        return None
    error = math.sqrt(sum(variance(values) / len(values) for values in (first, second)))
    return Difference(fmean(first) - fmean(second), error)


def _claims(results: Results[R3Settings], groups: dict[str, Group]) -> list[Claim]:
    """What the talk says, against trainings without a regulariser.

    A difference counts if it is more than two standard errors over the seeds; of a single seed
    nothing can be said.
    """
    if _NONE not in groups:
        return []
    without, epoch = groups[_NONE], results.epochs - 1
    claims, one_seed = [], "two seeds at least are needed"
    for name, group in groups.items():
        if name == _NONE:
            continue
        narrower = _difference(_gaps(without, "loss", epoch), _gaps(group, "loss", epoch))
        claims.append(
            claim(
                f"the talk: {group.title} works against overfitting",
                f"the gap in loss is narrower by {narrower.show(1, 3) if narrower else MISSING}",
                narrower and narrower.counts,
                "by no more than chance" if narrower else one_seed,
            )
        )
        if name.startswith("dropout") and results.settings.model.norm == "batch":
            better = _difference(*(g.values("test_top1", epoch) for g in (group, without)))
            shown = better.show(100, 1) if better else MISSING
            claims.append(
                claim(
                    f"the talk: {group.title} is not encouraged beside batch normalisation",
                    f"validation top-1 rises by {shown} points",
                    better and not better.counts,
                    "it helps here" if better else one_seed,
                )
            )
    return claims


if __name__ == "__main__":
    run_command(main)
