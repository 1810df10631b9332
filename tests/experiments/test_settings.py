"""The command line: defaults, --quick, and values that make no sense."""

import dataclasses

import pytest

from experiments.protocol import follows_published_protocol, optimizer_options
from experiments.settings import SeveralSettings, SingleSettings, parse_settings
from jaxresnet.errors import UserError


def parse(*arguments: str) -> SingleSettings:
    return parse_settings(SingleSettings, "c1_training", "", list(arguments))


def parse_several(*arguments: str) -> SeveralSettings:
    return parse_settings(SeveralSettings, "c6_optimizers", "", list(arguments))


def test_the_defaults_are_the_published_protocol():
    for settings in (parse(), parse_several()):
        assert follows_published_protocol(settings, train_images=50_000, synthetic=False)
        assert not follows_published_protocol(settings, train_images=50_000, synthetic=True)
        assert not follows_published_protocol(settings, train_images=10_000, synthetic=False)
    assert parse_several().training.names == ("sgd", "nesterov", "adagrad", "adadelta", "adam")


@pytest.mark.parametrize(
    "arguments", ["--epochs 4", "--learning-rate 0.2", "--width 32", "--batch-size 64"]
)
def test_other_settings_are_not_the_published_protocol(arguments):
    settings = parse(*arguments.split())
    assert not follows_published_protocol(settings, train_images=50_000, synthetic=False)


def test_quick_changes_defaults_and_yields_to_options():
    quick = parse("--quick")
    assert (quick.data.data, quick.output.quick) == ("synthetic", True)
    assert quick.model.width < parse().model.width
    assert parse("--epochs", "1", "--quick").training.epochs == 1
    assert parse("--quick", "--data", "cifar10").data.data == "cifar10"


def test_learning_rates_follow_the_protocol_unless_given():
    names = ("sgd", "nesterov", "adagrad", "adadelta", "adam")

    def rates(settings):
        return [optimizer_options(settings, name).learning_rate for name in names]

    assert rates(parse_several()) == [0.1] * 5
    assert rates(parse_several("--protocol", "defaults")) == [0.1, 0.1, 0.01, 1.0, 0.001]
    assert rates(parse_several("--protocol", "defaults", "--learning-rate", "0.3")) == [0.3] * 5


def test_workers_is_a_number_or_auto():
    assert parse("--workers", "0").data.workers == 0
    assert parse("--workers", "auto").data.workers == "auto"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epochs 0", "--epochs must be at least 1, got 0"),
        ("--epochs -3", "--epochs must be at least 1, got -3"),
        ("--batch-size 0", "--batch-size must be at least 1"),
        ("--width 0", "--width must be at least 1"),
        ("--train-images 0", "--train-images must be at least 1"),
        ("--eval-images -1", "--eval-images must be at least 1"),
        ("--workers -1", "--workers must be at least 0"),
        ("--prefetch -1", "--prefetch must be at least 0"),
        ("--loader resident --workers 4", "--workers 4 is for --loader tfdata, but --loader is"),
        ("--prefetch 0 --loader resident", "--prefetch 0 is for --loader tfdata"),
        ("--checkpoint-every 0", "--checkpoint-every must be at least 1"),
        ("--seed -1", "--seed must be at least 0"),
        ("--seed 2147483648", "--seed must be at least 0 and below"),
        ("--data synthetic --data-dir x", "--data-dir is x, but --data is synthetic"),
        ("--quick --data-dir x", "--data-dir is x, but --data is synthetic"),
        ("--weight-decay -0.1", "--weight-decay must be at least 0"),
        ("--weight-decay nan", "--weight-decay must be at least 0"),
        ("--learning-rate 0", "--learning-rate must be above 0"),
        ("--learning-rate nan", "--learning-rate must be above 0"),
        ("--learning-rate inf", "--learning-rate must be above 0 and finite, got inf"),
        ("--momentum 1", "--momentum must be at least 0 and below 1"),
        ("--model resnet20", r"unknown --model 'resnet20': choose one of resnet18.*resnet152"),
        ("--optimizer adamax", r"unknown optimizer 'adamax': choose from sgd.*adam"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(*arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--optimizers", "--optimizers needs at least one of sgd"),
        ("--optimizers sgd adamax", "unknown optimizer 'adamax'"),
        ("--optimizers sgd sgd", "--optimizers names one twice"),
    ],
)
def test_lists_of_optimizers_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        parse_several(*arguments.split())


@pytest.mark.parametrize(
    "arguments", ["--epoch-count 3", "--epochs five", "--data imagenet", "--dtype float16"]
)
def test_what_cannot_be_parsed_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments.split())
    assert ended.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


def test_help_shows_every_shared_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    settings = dataclasses.asdict(SingleSettings())
    for group, options in settings.items():
        assert f"{group} options" in text
        for name in options:
            assert f"--{name.replace('_', '-')}" in text
    for default in ("(default: 128)", "(default: resnet18)", "(default: 0.0005)"):
        assert default in " ".join(text.split())
