"""R3: what regularisers do to the gap between training and validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any

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


def _is_greater(first: Sequence[float], second: Sequence[float] | float) -> bool | None:
    """Whether the mean over the seeds is, by more than chance; None of fewer than two seeds.

    Welch's t-test; of a number, Student's.
    """
    values = [first] if isinstance(second, float) else [first, second]
    if min(map(len, values)) < 2:
        return None
    test: Any
    if isinstance(second, float):
        test = stats.ttest_1samp(first, second, alternative="greater")
    else:
        test = stats.ttest_ind(first, second, equal_var=False, alternative="greater")
    return bool(test.pvalue < _LEVEL)


def judge(groups: dict[str, Group], epoch: int, norm: str) -> list[Claim]:
    """What the talk says, against trainings without a regulariser, by the figures of an epoch.

    A difference counts if it is significant over the seeds at level 0.05. Of a single seed, or
    where the network does not overfit without one, nothing can be said.
    """
    if _NONE not in groups:
        return []
    without = groups[_NONE]
    overfits = _is_greater(_gaps(without, "loss", epoch), 0.0)
    reason = "two seeds at least are needed" if overfits is None else "nothing overfits here"
    claims = []
    for name, group in groups.items():
        if name == _NONE:
            continue
        gaps = [_gaps(each, "loss", epoch) for each in (without, group)]
        claims.append(
            claim(
                f"{group.title} works against overfitting",
                f"the gap in loss is {fmean(gaps[1]):.3f}, and {fmean(gaps[0]):.3f} without",
                _is_greater(*gaps) if overfits else None,
                "no more than chance" if overfits else reason,
            )
        )
        if name.startswith("dropout") and norm == "batch":
            top1s = [each.values("test_top1", epoch) for each in (group, without)]
            helps = _is_greater(*top1s) if overfits else None
            claims.append(
                claim(
                    f"{group.title} is not encouraged beside batch normalisation",
                    f"validation top-1 {fmean(top1s[0]):.1%}, and {fmean(top1s[1]):.1%} without",
                    None if helps is None else not helps,
                    "it helps here" if helps else reason,
                )
            )
    return claims


if __name__ == "__main__":
    run_command(main)
