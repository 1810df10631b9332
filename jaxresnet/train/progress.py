"""What a person sees while training: bars in a terminal, plain lines elsewhere."""

import time

from rich import progress as bars
from rich.console import Console

from jaxresnet.options import plural
from jaxresnet.train.figures import Record

# An image evaluated costs about a third of one trained on: a forward pass, no gradients.
EVAL_COST = 1 / 3
# Steps before the first estimate: the first ones wait for input and for fresh memory.
_SETTLING_STEPS, _TIMED_STEPS = 2, 3
_PLAIN_INTERVAL = 15.0  # seconds between plain lines


def format_duration(seconds: float) -> str:
    """12.3 s, 4 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Follows several trainings of equal length; use it as a context manager."""

    def __init__(
        self, console: Console, trainings: int, epochs: int, train_images: int, eval_images: int
    ):
        self._console, self._trainings, self._epochs = console, trainings, epochs
        self._train_images = train_images
        self._epoch_work = train_images + EVAL_COST * eval_images
        self._work_total = trainings * epochs * self._epoch_work
        self._work_done = 0.0
        self._steps_seen = 0
        self._rate = 0.0  # images per second, averaged over the recent past
        self._last_line = time.monotonic()
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._epoch_bar = self._bars.add_task("starting", total=train_images, state="")
        self._run_bar = self._bars.add_task("all", total=self._work_total, state="")

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """Prints a line above the bars."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def compiling(self, title: str) -> None:
        """A training is being compiled."""
        self._bars.reset(self._epoch_bar, description=f"{title}, compiling", state="")

    def skip(self, epochs: int) -> None:
        """Epochs that an earlier start of this run had finished."""
        self._work_done += epochs * self._epoch_work

    def begin_epoch(self, title: str, epoch: int, images_done: int) -> None:
        """An epoch begins, or continues after `images_done` images."""
        self._title = f"{title}, epoch {epoch + 1}/{self._epochs}"
        self._images = images_done
        self._seen, self._correct, self._loss = 0, 0, 0.0
        self._work_done += images_done
        self._bars.reset(self._epoch_bar, completed=images_done, description=self._title, state="")

    def steps(self, records: list[Record]) -> None:
        """Steps were finished."""
        for record in records:
            images = record["images"]
            self._images += images
            self._seen += images
            self._work_done += images
            self._correct += record["correct"]
            self._loss += record["loss"] * images
            self._steps_seen += 1
            if self._steps_seen > _SETTLING_STEPS:
                rate = images / max(record["compute"] + record["input_stall"], 1e-9)
                self._rate = 0.9 * self._rate + 0.1 * rate if self._rate else rate
            if self._steps_seen == _SETTLING_STEPS + _TIMED_STEPS:
                self.say(
                    f"about {self._time_left()} to go for {self._trainings} x "
                    f"{plural(self._epochs, 'epoch')} of {self._train_images:,} images, "
                    f"at {self._rate:,.0f} images/s"
                )
        if records:
            self._show()

    def _time_left(self) -> str:
        return format_duration((self._work_total - self._work_done) / self._rate)

    def _show(self) -> None:
        state = f"loss {self._loss / self._seen:.3f}  top-1 {self._correct / self._seen:.1%}"
        left = ""
        if self._rate:
            epoch_left = format_duration((self._train_images - self._images) / self._rate)
            state += f"  {self._rate:,.0f} images/s  {epoch_left} left"
            left = f"{self._time_left()} left"
        self._bars.update(self._epoch_bar, completed=self._images, state=state)
        self._bars.update(self._run_bar, completed=self._work_done, state=left)
        if not self._console.is_terminal and time.monotonic() - self._last_line > _PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            share = f"{self._images:,}/{self._train_images:,} images"
            self.say(f"{self._title}: {share}  {state}" + (f"  (all: {left})" if left else ""))

    def evaluated(self, images: int) -> None:
        """Images of the test split were evaluated."""
        self._work_done += EVAL_COST * images
        self._bars.update(self._epoch_bar, description=f"{self._title}, evaluating")
        self._bars.update(self._run_bar, completed=self._work_done)

    def end_epoch(self, record: Record) -> None:
        """An epoch was trained and evaluated."""
        top5 = f", test top-5 {record['test_top5']:.1%}" if "test_top5" in record else ""
        self.say(
            f"{self._title}: {format_duration(record['seconds'])}, loss {record['loss']:.3f}, "
            f"top-1 {record['top1']:.1%}, test loss {record['test_loss']:.3f}, "
            f"test top-1 {record['test_top1']:.1%}{top5}"
        )
