"""The images that the command line asks for, with what a person sees while they are read."""

from rich.console import Console
from rich.progress import Progress

from jaxresnet.data.dataset import Dataset
from jaxresnet.data.sources import ImageOptions, load_dataset


def load_images(options: ImageOptions, console: Console) -> Dataset:
    """See load_dataset; with a bar while the images are decoded, and a warning that is seen."""

    def warn(message: str) -> None:
        console.rule("[bold yellow]synthetic images", style="yellow")
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
        console.rule(style="yellow")

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding images, once", total=None, visible=False)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return load_dataset(options, on_progress=on_progress, warn=warn)
