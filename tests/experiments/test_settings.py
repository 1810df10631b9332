"""The command line of the training experiments: defaults, --quick, values that make no sense."""

import dataclasses

import pytest

from experiments.c6_optimizers import C6Settings
from experiments.c7_no_batch_norm import C7Settings
from experiments.harness.published import SOURCE
from experiments.harness.results import protocol_departures
from experiments.harness.settings import Settings, given_by, make_variants, parse_settings
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import SOURCES, ImageOptions, load_dataset
from jaxresnet.errors import UserError
from jaxresnet.options import option, options_of


def parse(*arguments: str) -> Settings:
    return parse_settings(Settings, "c1_training", "", list(arguments))


def parse_several(*arguments: str) -> C6Settings:
    return parse_settings(C6Settings, "c6_optimizers", "", list(arguments))


@pytest.fixture(scope="module")
def synthetic() -> Dataset:
    options = ImageOptions(data="synthetic", train_images=20, eval_images=10)
    return load_dataset(options, on_progress=print, warn=print)


@pytest.fixture
def whole_cifar10(synthetic) -> Dataset:
    return dataclasses.replace(synthetic, name=SOURCE, source=SOURCES[SOURCE], published=True)


def test_the_defaults_are_the_published_protocol(whole_cifar10, synthetic):
    for settings in (parse(), parse_several()):
        assert protocol_departures(settings, whole_cifar10) == []
        assert protocol_departures(settings, synthetic)
        in_class_folders = dataclasses.replace(whole_cifar10, published=False)
        assert protocol_departures(settings, in_class_folders)
    titles = [variant.title for variant in make_variants(parse_several())]
    assert titles == ["SGD", "SGD, Nesterov", "Adagrad", "Adadelta", "Adam"]


@pytest.mark.parametrize(
    "arguments",
    [
        "--epochs 4", "--learning-rate 0.2", "--width 32", "--batch-size 64", "--eval-images 10",
        "--train-images 10", "--protocol defaults", "--augment none", "--dtype bfloat16",
        "--schedule cosine", "--warmup-epochs 0.5", "--label-smoothing 0.1", "--ema 0.9",
        "--l1 0.1", "--l2 0.1", "--dropout 0.2", "--zero-init-residual", "--no-decay-on-norm",
    ],
)  # fmt: skip
def test_other_settings_are_not_the_published_protocol(arguments, whole_cifar10):
    departed = protocol_departures(parse(*arguments.split()), whole_cifar10)
    assert len(departed) == 1
    assert departed[0].startswith(arguments)


def test_the_published_values_are_no_departure_where_they_are_given(whole_cifar10):
    published = "--learning-rate 0.1 --train-images 50000 --eval-images 10000 --epochs 5"
    assert protocol_departures(parse(*published.split()), whole_cifar10) == []


def test_a_value_is_given_by_its_own_flag_or_by_a_lists():
    assert given_by(parse_several("--seed", "1"), "seed") == "--seed"
    assert given_by(parse_several("--seeds", "1", "2"), "seed") == "--seeds"


def test_what_does_not_change_the_result_is_no_departure(whole_cifar10):
    settings = parse("--workers", "5", "--seed", "3", "--convolution", "plain", "--verbose")
    assert protocol_departures(settings, whole_cifar10) == []


def test_quick_changes_defaults_and_yields_to_options():
    quick = parse("--quick")
    assert (quick.images.data, quick.output.quick) == ("synthetic", True)
    assert quick.model.width < parse().model.width
    assert parse("--epochs", "1", "--quick").training.epochs == 1
    assert parse("--quick", "--data", "cifar10").images.data == "cifar10"


def test_learning_rates_follow_the_protocol_unless_given():
    def rates(*arguments: str) -> list[float]:
        variants = make_variants(parse_several(*arguments))
        return [variant.settings.optimizer.rate for variant in variants]

    assert rates() == [0.1] * 5
    assert rates("--protocol", "defaults") == [0.1, 0.1, 0.01, 1.0, 0.001]
    assert rates("--protocol", "defaults", "--learning-rate", "0.3") == [0.3] * 5


def test_variants_are_named_by_what_varies():
    settings = parse_several("--optimizers", "sgd", "adam", "--seeds", "0", "4")
    variants = make_variants(settings, workers=[1, 2])
    assert [v.series for v in variants[:3]] == [
        "sgd-seed0-workers1", "sgd-seed0-workers2", "sgd-seed4-workers1"
    ]  # fmt: skip
    assert variants[1].title == "SGD, seed 0, 2 workers"
    assert {v.value("seed") for v in variants} == {0, 4}
    assert len({v.series for v in variants}) == len({v.settings for v in variants}) == 8
    (alone,) = make_variants(parse("--optimizer", "adam", "--seed", "3"))
    assert (alone.series, alone.title) == ("adam", "Adam")


def test_a_list_of_values_stands_beside_quicks_own_default():
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        batch_sizes: tuple[int, ...] = option(
            (64, 128), affects="result", published=False, says="", varies="batch_size"
        )

    @dataclasses.dataclass(frozen=True)
    class SizeSettings(Settings):
        sizes: Sizes = Sizes()

    for quick in ([], ["--quick"]):
        settings = parse_settings(SizeSettings, "c9_sizes", "", quick)
        titles = [variant.title for variant in make_variants(settings)]
        assert titles == ["SGD, batch size 64", "SGD, batch size 128"]


def test_workers_is_a_number_or_auto():
    assert parse("--workers", "0").loader.workers == 0
    assert parse("--workers", "auto").loader.workers == "auto"


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
        (
            "--loader resident --workers 4",
            "--workers 4 is for a loader with workers, but --loader is resident",
        ),
        ("--prefetch 0 --loader resident", "--prefetch 0 is for a loader with workers"),
        ("--checkpoint-every 0", "--checkpoint-every must be at least 1"),
        ("--seed -1", "--seed must be at least 0"),
        ("--seed 2147483648", "--seed must be at least 0 and below 2147483648"),
        ("--data synthetic --data-dir x", "--data-dir is x, but --data is synthetic"),
        ("--quick --data-dir x", "--data-dir is x, but --data is synthetic"),
        ("--weight-decay -0.1", "--weight-decay must be at least 0"),
        ("--weight-decay nan", "--weight-decay must be at least 0"),
        ("--learning-rate 0", "--learning-rate must be above 0"),
        ("--learning-rate nan", "--learning-rate must be above 0"),
        ("--learning-rate inf", "--learning-rate must be above 0 and finite, got inf"),
        ("--momentum 1", "--momentum must be at least 0 and below 1"),
        ("--schedule linear", "unknown schedule 'linear': choose one of constant, step, cosine"),
        ("--warmup-epochs -1", "--warmup-epochs must be at least 0"),
        ("--warmup-epochs 5", "--warmup-epochs must be below --epochs, 5, got 5"),
        ("--warmup-epochs 1 --epochs 1", "--warmup-epochs must be below --epochs, 1, got 1"),
        ("--label-smoothing 1", "--label-smoothing must be at least 0 and below 1"),
        ("--l1 -1", "--l1 must be at least 0"),
        ("--l2 inf", "--l2 must be at least 0 and finite, got inf"),
        ("--dropout 1", "--dropout must be at least 0 and below 1"),
        ("--ema 0", "--ema must be above 0 and below 1, got 0"),
        ("--ema 1", "--ema must be above 0 and below 1, got 1"),
        (
            "--zero-init-residual --norm none",
            "--zero-init-residual is for normalisation layers, but --norm is none",
        ),
        (
            "--zero-init-residual --init-from weights",
            "--zero-init-residual is for weights that are drawn, but --init-from gives them",
        ),
        ("--data imagenette", "unknown data 'imagenette': choose one of auto, cifar10.*synthetic"),
        ("--model resnet20", r"unknown model 'resnet20': choose one of resnet18.*resnet152"),
        ("--optimizer adamax", r"unknown optimizer 'adamax': choose one of sgd.*adam"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(*arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--optimizers", "--optimizers needs at least one value"),
        (
            "--optimizer adam",
            "--optimizer adam and --optimizers .* contradict each other: leave one out",
        ),
        ("--optimizers sgd adamax", "unknown optimizer 'adamax'"),
        ("--optimizers sgd sgd", "--optimizers has a value twice"),
    ],
)
def test_lists_of_optimizers_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        parse_several(*arguments.split())


def test_c7_refuses_another_norm():
    with pytest.raises(UserError, match="--norm is batch, but C7 trains without: use c1_training"):
        parse_settings(C7Settings, "c7_no_batch_norm", "", ["--norm", "batch"])
    with pytest.raises(UserError, match="--norm is none"):
        parse_settings(C7Settings, "c7_no_batch_norm", "", ["--zero-init-residual"])


@pytest.mark.parametrize("arguments", ["--epoch-count 3", "--epochs five", "--dtype float16"])
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
    for group in dataclasses.fields(Settings):
        assert f"{group.name} options" in text
    for one in options_of(Settings()):
        assert one.flag in text
    for default in ("(default: 128)", "(default: resnet18)", "(default: 0.0005)"):
        assert default in " ".join(text.split())
