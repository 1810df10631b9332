"""The report on one kind of training: by epoch and by batch, beside what the labs published."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from experiments.harness.claims import OTHER_PROTOCOL, claim
from experiments.harness.epochs import Group, epoch_table, plot_learning
from experiments.harness.results import Results, describe_run, protocol_departures
from jaxresnet.report.document import Claim, Report

# Trainings that differ in nothing but their random draws end so far apart in top-1, at least.
_CHANCE = 0.03
_DEVIATIONS = 3


def report_learning(
    results: Results, labs: Mapping[str, Mapping[str, Any]], title: str, asked: str, remark: str
) -> Report:
    """labs: as in Group. remark: a sentence of the introduction."""
    group, last = Group("this run", results.series, labs), results.epochs - 1
    first_loss, loss, top1, test_top1 = (
        fmean(group.values(key, epoch))
        for key, epoch in (("loss", 0), ("loss", last), ("top1", last), ("test_top1", last))
    )
    course = f"went from {first_loss:.3f} to {loss:.3f}" if last else f"was {loss:.3f}"
    findings = [
        f"The loss of an epoch {course}; top-1 in training reached {top1:.1%}, and "
        f"{test_top1:.1%} on the test images."
    ]
    for lab, figures in labs.items():
        epoch = min(last, len(figures["loss"]) - 1)
        findings.append(
            f"{lab} had {figures['loss'][epoch]:.3f} and {figures['top1'][epoch]:.1%} in its epoch "
            f"{epoch + 1}."
        )
    return Report(
        title,
        f"{describe_run(results)} {remark}",
        [epoch_table(results, [group])],
        plot_learning(results, [group], "batch"),
        asked=asked,
        findings=findings,
        claims=_compare_top1(results, group),
    )


def _compare_top1(results: Results, group: Group) -> list[Claim]:
    """Of each lab's last top-1 in training, a claim.

    They agree if the mean over the seeds is within three standard deviations of the lab's figure,
    or within three points; it cannot be said unless the run follows the published protocol.
    """
    departed = protocol_departures(results.settings, results.dataset)
    top1s, losses = (group.values(key, results.epochs - 1) for key in ("top1", "loss"))
    bound = max(_CHANCE, _DEVIATIONS * stdev(top1s) if len(top1s) > 1 else 0.0)
    claims = []
    for lab, figures in group.labs.items():
        top1, loss, epoch = figures["top1"][-1], figures["loss"][-1], len(figures["top1"])
        difference = abs(fmean(top1s) - top1)
        claims.append(
            claim(
                f"{lab}: training top-1 {top1:.1%}, loss {loss:.3f} after epoch {epoch}",
                f"{fmean(top1s):.1%}, loss {fmean(losses):.3f}",
                None if departed else difference <= bound,
                OTHER_PROTOCOL if departed else f"{difference:.1%} apart",
            )
        )
    return claims
