"""Lines of a log for the tests, with every figure that a step computes."""

from jaxresnet.train.figures import FIGURES, Record, step_record


def record(step: int, epoch: int = 0, **changes: float) -> Record:
    """A step of 10 images, half of them right, of 1.05 seconds."""
    position = {"step": step, "epoch": epoch, "batch": step, "images": 10}
    figures = {figure.name: 1.0 for figure in FIGURES if figure.step} | {"loss": 2.0, "correct": 5}
    times = {"input_wait": 0.1, "input_stall": 0.05, "compute": 1.0}
    return step_record({**position, **figures, **times, **changes}, {})
