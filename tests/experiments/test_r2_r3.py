"""R2 and R3: the talk's training, and regularisers, on few small pictures."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import r2_training, r3_regularisation
from experiments.harness.epochs import Group
from experiments.harness.settings import make_variants, parse_settings
from experiments.r3_regularisation import R3Settings, judge
from jaxresnet.options import departures
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import row, run

TINY = ("--model", "resnet18", "--image-size", "32", "--epochs", "2")


@pytest.fixture(scope="module")
def r2_run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("r2") / "run"
    # Optax's schedules mix floats and integers, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        assert run(r2_training.main, directory, *TINY, "--batch-size", "36") == 0
    return directory


def test_r2_reports_speed_and_memory_by_epoch(r2_run):
    report = (r2_run / "report.md").read_text()
    epochs = read_json_lines(r2_run / "epochs.jsonl")
    for number, epoch in enumerate(epochs, 1):
        _, time, rate, *_, peak = row(report.partition("### Speed and memory")[2], str(number))
        assert time == f"{epoch['seconds']:.1f}"
        assert rate == f"{epoch['images'] / epoch['seconds']:,.1f}"
        assert peak == f"{epoch['peak_memory']:,.0f}"
    (start,) = read_json_lines(r2_run / "starts.jsonl")
    assert f"a step needs {start['step_memory']:,.0f} MiB" in report


def test_r2_puts_the_talks_epoch_of_that_batch_size_beside_its_own(r2_run):
    report = (r2_run / "report.md").read_text()
    # 1,281,167 images in 136 min.
    said = "batch size 36 on an RTX A6000: 136 min an epoch, 157.0 images/s"
    _, here, verdict = row(report, said)
    epochs = read_json_lines(r2_run / "epochs.jsonl")
    rate = sum(e["images"] for e in epochs) / sum(e["seconds"] for e in epochs)
    assert here == f"{1_281_167 / rate / 60:,.0f} min for 1,281,167 images, {rate:,.1f} images/s"
    assert verdict.startswith("cannot say: times depend on the device")


def test_r2_says_what_the_protocol_has_from_whom(r2_run):
    report = (r2_run / "report.md").read_text()
    assert "He et al." in report
    assert "Goyal et al." in report
    assert "--model resnet18 instead of resnet152" in report
    assert "| the talk found |" in report
    assert "--schedule" not in report  # the talk's experiments have it by default


@pytest.mark.slow
def test_r3_trains_with_each_regulariser_and_seed(tmp_path):
    names = ("none", "l2-dropout0.5")
    arguments = (*TINY, "--regularisers", *names, "--seeds", "0", "1")
    with jax.numpy_dtype_promotion("standard"):
        assert run(r3_regularisation.main, tmp_path / "run", *arguments) == 0
    epochs = read_json_lines(tmp_path / "run" / "epochs.jsonl")
    assert list(dict.fromkeys(e["series"] for e in epochs)) == [
        f"{name}-seed{seed}" for name in names for seed in (0, 1)
    ]
    last = [e for e in epochs if e["series"].startswith("none") and e["epoch"] == 1]
    gaps = [e["test_loss"] - e["loss"] for e in last]
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"| {np.mean(gaps):.3f} ± {np.std(gaps, ddof=1):.3f} |" in report
    assert (tmp_path / "run" / "gap_top1.png").exists()


def test_r3_takes_several_seeds_by_default():
    usual, quick = (
        parse_settings(R3Settings, "r3_regularisation", "", arguments)
        for arguments in ([], ["--quick"])
    )
    assert [variant.value("seed") for variant in make_variants(usual)] == [0, 1, 2]
    assert [variant.value("seed") for variant in make_variants(quick)] == [0, 1]
    assert departures(usual, R3Settings()) == []
    assert not any("seed" in departed for departed in departures(quick, R3Settings()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "5"], "--seed 5 and --seeds 0 1 2 contradict each other: leave one out"),
        (["--seeds"], "--seeds needs at least one value"),
        (["--l2", "0.1"], "--l2 is 0.1, but R3 trains with and without"),
        (["--dropout", "0.1"], "--dropout is 0.1, but R3 trains with and without"),
        (["--regularisers", "l3"], "unknown regulariser 'l3': choose one of none, l1, l2"),
        (["--regularisers"], "--regularisers needs at least one name"),
        (["--l1-strength", "0"], "--l1-strength must be above 0"),
    ],
)
def test_r3_refuses_what_makes_no_sense(arguments, message, tmp_path, capsys):
    assert run(r3_regularisation.main, tmp_path / "run", *TINY, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def made_up(
    title: str,
    loss: float,
    top1: float,
    training: float = 1.0,
    top1_noise: float = 0.01,
    seeds: int = 3,
) -> Group:
    """Trainings with about these figures of validation, and this training loss."""

    def series(seed: int):
        figures = {
            "loss": training,
            "test_loss": loss + 0.01 * seed,
            "test_top1": top1 + top1_noise * seed,
        }
        return SimpleNamespace(values=lambda name: [figures[name]])

    return Group(title, [series(seed) for seed in range(seeds)], {})  # pyright: ignore[reportArgumentType]


WORKS, BESIDE = "works against overfitting", "is not encouraged beside batch normalisation"


@pytest.mark.parametrize(
    ("loss", "top1", "works", "beside"),
    [
        (1.3, 0.4, "yes", "yes"),
        (1.7, 0.6, "no: it harms here", "no: it helps here"),
        (1.5, 0.5, "cannot say: no more than chance", "cannot say: no more than chance"),
        (1.51, 0.51, "cannot say: no more than chance", "cannot say: no more than chance"),
        (1.3, 0.6, "yes", "no: it helps here"),
    ],
)
def test_r3_judges_by_what_is_more_than_chance_in_validation(loss, top1, works, beside):
    groups = {"none": made_up("none", 1.5, 0.5), "dropout0.5": made_up("dropout", loss, top1)}
    verdicts = {claim.published: claim.verdict for claim in judge(groups, 0, "batch")}
    assert verdicts == {f"dropout {WORKS}": works, f"dropout {BESIDE}": beside}
    (alone,) = judge(groups, 0, "none")
    assert alone.verdict == works


def test_r3_judges_dropout_alone_beside_batch_normalisation():
    groups = {name: made_up(name, 1.5, 0.5) for name in ("none", "l1", "l2-dropout0.5")}
    said = [claim.published for claim in judge(groups, 0, "batch")]
    assert said == [f"l1 {WORKS}", f"l2-dropout0.5 {WORKS}"]


def test_r3_does_not_count_a_gap_that_dropout_closes_by_training_worse():
    dropout = made_up("dropout", 1.5, 0.5, training=1.4)
    claims = judge({"none": made_up("none", 1.5, 0.5), "dropout0.5": dropout}, 0, "batch")
    assert [claim.agrees for claim in claims] == ["cannot say", "cannot say"]


@pytest.mark.parametrize(
    ("none", "l2", "why"),
    [
        (made_up("none", 0.9, 0.5), made_up("L2", 0.7, 0.5), "nothing overfits here"),
        (made_up("none", 1.5, 0.5, seeds=1), made_up("L2", 1.3, 0.5), "two seeds at least"),
        (made_up("none", 1.5, 0.5), made_up("L2", 1.3, 0.5, seeds=1), "two seeds at least"),
    ],
)
def test_r3_cannot_say_where_nothing_overfits_or_of_one_seed(none, l2, why):
    (judged,) = judge({"none": none, "l2": l2}, 0, "batch")
    assert judged.agrees == "cannot say"
    assert why in judged.why
    assert judge({"l2": l2}, 0, "batch") == []


def test_r3_cannot_say_of_figures_that_are_the_same_with_every_seed():
    groups = {
        "none": made_up("none", 1.5, 0.5, top1_noise=0),
        "dropout0.5": made_up("dropout", 1.3, 0.4, top1_noise=0),
    }
    works, beside = judge(groups, 0, "batch")
    assert (works.agrees, beside.agrees) == ("yes", "cannot say")
    assert works.here == "validation loss 1.310, and 1.510 without"
    assert beside.here == "validation top-1 40.0%, and 50.0% without"
