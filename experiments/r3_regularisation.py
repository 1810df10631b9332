"""R3: what regularisers do to validation, and to its gap to training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy import stats

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
from jaxresnet.report.tables import Column, Table, make_table, mean_and_deviation
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
_LEVEL = 0.05  # of significance
# How a figure is shown with and without a regulariser, and what it says if it is higher with one.
_COMPARED = {
    "test_loss": ("validation loss {:.3f}, and {:.3f} without", "it harms here"),
    "test_top1": ("validation top-1 {:.1%}, and {:.1%} without", "it helps here"),
}


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
    # Of a single one nothing is said.
    repeated: SeedsOptions = SeedsOptions(seeds=(0, 1, 2))
    QUICK: ClassVar[dict[str, Any]] = {
        **TalkSettings.QUICK, "model": "resnet18", "seeds": (0, 1),
    }  # fmt: skip


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
    losses, top1s = (
        {group.title: fmean(group.values(figure, last)) for group in groups.values()}
        for figure in ("test_loss", "test_top1")
    )
    lowest, highest = min(losses, key=losses.__getitem__), max(top1s, key=top1s.__getitem__)
    return Report(
        "R3: regularisation",
        describe_run(results),
        [_table(results, list(groups.values()))],
        [_plot(results, list(groups.values()), figure) for figure in ("loss", "top1")],
        asked="The talk adds L1, L2 or dropout against overfitting: what does each do to "
        "validation, and to the gap between training and validation?",
        findings=[
            f"After {plural(results.epochs, 'epoch')} the validation loss is lowest with "
            f"{lowest}, {losses[lowest]:.3f}, and validation top-1 highest with {highest}, "
            f"{top1s[highest]:.1%}."
        ],
        claims=judge(groups, last, results.settings.model.norm),
        details=[epoch_table(results, list(groups.values()))],
        publisher=results.settings.protocol.authors,
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
        "much validation is worse; it flatters dropout, which is on in training alone."
        f"{seeds_note(groups)}"
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


def judge(groups: dict[str, Group], epoch: int, norm: str) -> list[Claim]:
    """What the talk says, against trainings without a regulariser, by the figures of an epoch.

    A regulariser works if the validation loss is lower with it, and is not encouraged if validation
    top-1 is; the talk is mistaken if they are higher. A difference counts if it is significant over
    the seeds at level 0.05. Of a single seed, or where the network does not overfit without a
    regulariser, nothing can be said.
    """
    if _NONE not in groups:
        return []
    without, claims = groups[_NONE], []
    for name, group in groups.items():
        if name == _NONE:
            continue
        said = {"test_loss": "works against overfitting"}
        if name.startswith("dropout") and norm == "batch":
            said["test_top1"] = "is not encouraged beside batch normalisation"
        claims += [
            _judge(f"{group.title} {what}", figure, group, without, epoch)
            for figure, what in said.items()
        ]
    return claims


def _judge(said: str, figure: str, group: Group, without: Group, epoch: int) -> Claim:
    """Agrees if the figure is lower with a regulariser than without."""
    shown, if_higher = _COMPARED[figure]
    values = [each.values(figure, epoch) for each in (group, without)]
    here, gaps = shown.format(*map(fmean, values)), _gaps(without, "loss", epoch)
    if min(map(len, values)) < 2:
        return claim(said, here, None, "two seeds at least are needed")
    overfits: Any = stats.ttest_1samp(gaps, 0, alternative="greater")
    if not overfits.pvalue < _LEVEL:
        return claim(said, here, None, "nothing overfits here by more than chance")
    lower = _is_lower(*values)
    return claim(said, here, lower, "no more than chance" if lower is None else if_higher)


def _is_lower(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether the mean over the seeds is; None if it differs by no more than chance.

    By Welch's t-test, two-sided. It needs values that vary.
    """
    moments = [(fmean(values), stdev(values), len(values)) for values in (first, second)]
    if not any(deviation for _, deviation, _ in moments):
        return None
    test: Any = stats.ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False)
    return bool(test.statistic < 0) if test.pvalue < _LEVEL else None


if __name__ == "__main__":
    run_command(main)
