"""What a person sees while a run goes on."""

import io

import pytest
from rich.console import Console

from jaxresnet.train.figures import epoch_record
from jaxresnet.train.progress import Progress, format_duration
from tests.train.records import record


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (245, "4 min 05 s"), (7_620, "2 h 07 min")],
)
def test_durations_are_written_for_people(seconds, words):
    assert format_duration(seconds) == words


def follow(terminal: bool, skipped: int = 0) -> str:
    """Two trainings of 2 epochs of 1,000 images; an epoch of the first, as it is shown."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120)
    with Progress(console, 2, 2, train_images=1_000, eval_images=300) as progress:
        progress.skip(skipped)
        progress.compiling("SGD")
        progress.begin_epoch("SGD", 0, 0)
        # 100 images in a second, half of them right.
        counts = {"images": 100, "correct": 50, "input_stall": 0.25, "compute": 0.75}
        steps = [record(step, **counts) for step in range(10)]
        for step in steps:
            progress.steps([step])
        progress.evaluated(300)
        progress.end_epoch(epoch_record(0, steps, {"test_loss": 1.5, "test_top1": 0.25}))
    return output.getvalue()


def test_plain_output_estimates_the_whole_and_ends_with_the_epochs_figures():
    lines = follow(terminal=False).splitlines()
    # 4 epochs of 1,000 images and a third of 300, of which 500 are done: 3,900 at 100 a second.
    assert lines == [
        "about 39.0 s to go for 2 x 2 epochs of 1,000 images, at 100 images/s",
        "SGD, epoch 1/2: 10.0 s, loss 2.000, top-1 50.0%, test loss 1.500, test top-1 25.0%",
    ]


def test_what_was_done_before_is_not_in_the_time_left():
    assert "about 28.0 s to go" in follow(terminal=False, skipped=1)


def test_a_terminal_gets_bars():
    output = follow(terminal=True)
    for words in ("SGD, compiling", "SGD, epoch 1/2", "images/s", "left", "evaluating"):
        assert words in output
