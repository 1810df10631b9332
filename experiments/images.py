"""The images that the command line asks for, with what a person sees while they are read."""

from rich.console import Console
from rich.progress import Progress

from experiments.settings import SourceSettings
from jaxresnet.data.dataset import Dataset
from jaxresnet.data.load import load_dataset


def load_images(
    source: SourceSettings,
    train_images: int | None,
    eval_images: int | None,
    console: Console,
) -> Dataset:
    """The images that the settings ask for, with a bar while they are decoded."""

    def warn(message: str) -> None:
        console.rule("[bold yellow]synthetic images", style="yellow")
        console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
        console.rule(style="yellow")

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding images, once", total=None, visible=False)
        return load_dataset(
            source.data,
            source.data_dir,
            train_images,
            eval_images,
            on_progress=lambda done, total: bar.update(
                task, completed=done, total=total, visible=True
            ),
            warn=warn,
        )
