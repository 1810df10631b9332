"""The images that the command line asks for, with what a person sees while they are read."""

from functools import partial

from rich.console import Console
from rich.progress import Progress

from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import ImageOptions, load_dataset


def load_images(options: ImageOptions, console: Console) -> Dataset:
    """See load_dataset; with a bar while the data set is read, and a warning that is seen."""

    def warn(message: str) -> None:
        console.rule("[bold yellow]synthetic images", style="yellow")
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
        console.rule(style="yellow")

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading the data set, once", total=None, visible=False)
        show = partial(bar.update, task, visible=True)
        return load_dataset(
            options, on_progress=lambda done, total: show(completed=done, total=total), warn=warn
        )
