"""R4 as the shell runs it: batch sizes that fit, that do not, and that are missing."""

from pathlib import Path
from statistics import median

import pytest

from experiments import r4_batch_sizes
from experiments.harness import measured_steps
from experiments.harness.batch_size_findings import BatchSizes
from experiments.harness.measured_steps import StepMemory
from experiments.harness.published import published
from experiments.r4_batch_sizes import R4Settings
from jaxresnet.options import replace_options
from jaxresnet.report.document import Report, read_report
from jaxresnet.train.log import read_json_lines
from tests.experiments.running import command

EPOCH_IMAGES = 1_281_167
# The third takes 2 GiB.
SMALL = (
    *("--model", "resnet18", "--width", "4", "--image-size", "32", "--steps", "2"),
    *("--batch-sizes", "2", "4", "40000", "80000", "--memory-limit", "1.5GiB", "--out"),
)
ROWS = published()["resnet152"]["batch_size"]


def rows_of(report: Report) -> dict[str, dict[str, str]]:
    """Of the first way's table, by batch size and by column."""
    table = report.tables[1]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run whose second batch size the kernel has killed."""
    directory, measure = tmp_path_factory.mktemp("r4") / "run", measured_steps.subprocess_status

    def kill(experiment: str, arguments: list[str], environment: dict[str, str]) -> int:
        size = int(arguments[arguments.index("--batch-size") + 1])
        return -9 if size == 4 else measure(experiment, arguments, environment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured_steps, "subprocess_status", kill)
        assert command(r4_batch_sizes.main, *SMALL, directory) == 0
    return directory


@pytest.mark.slow
def test_an_epoch_is_as_long_as_the_steps_say(killed):
    (seconds,) = (line["seconds"] for line in log_of(killed) if "seconds" in line)
    assert len(seconds) == 2
    minutes = [EPOCH_IMAGES / 2 * each / 60 for each in seconds]
    shown = rows_of(read_report(killed))["2"]
    expected = f"{median(minutes):,.1f} ({min(minutes):,.1f}-{max(minutes):,.1f})"
    assert shown["epoch (min)"] == expected
    assert shown["images/s"] == f"{median(2 / each for each in seconds):,.2f}"


def log_of(directory: Path) -> list[dict]:
    return read_json_lines(directory / "float32-none.jsonl")


@pytest.mark.slow
def test_what_does_not_fit_is_a_row_with_its_size(killed):
    rows = rows_of(read_report(killed))
    compiled, predicted = (rows[size] for size in ("40000", "80000"))
    assert compiled["measured\nMiB"].startswith("not tried: needs ")
    assert predicted["measured\nMiB"].startswith("not tried: needs ")
    # The line goes through nothing and the third: the fourth is twice that, and not compiled.
    size = float(compiled["compiled\nMiB"].replace(",", ""))
    double = float(predicted["compiled\nMiB"].strip("()").replace(",", ""))
    assert size > 1.5 * 1024
    assert double == pytest.approx(2 * size, rel=1e-2)
    assert [line["batch_size"] for line in log_of(killed) if "buffers" in line] == [2, 40000]


@pytest.mark.slow
def test_a_killed_process_is_a_row_and_is_tried_again(killed):
    assert rows_of(read_report(killed))["4"]["measured\nMiB"] == "ended by signal 9"
    before = log_of(killed)
    assert command(r4_batch_sizes.main, *SMALL, killed) == 0
    added = log_of(killed)[len(before) :]
    assert [line["batch_size"] for line in added if "buffers" in line] == [4]
    rows = rows_of(read_report(killed))
    assert float(rows["4"]["images/s"].replace(",", "")) > 0
    assert rows["40000"]["measured\nMiB"].startswith("not tried: needs ")


@pytest.mark.slow
def test_nothing_fits(tmp_path, capsys):
    arguments = ("--batch-sizes", "1", "--memory-limit", "1MiB", "--out", tmp_path)
    assert command(r4_batch_sizes.main, *SMALL[:6], *arguments) == 1
    assert "no batch size fits: try smaller --batch-sizes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--memory-limit", "24"), "--memory-limit is 24, but takes a size such as 24GiB"),
        (("--batch-size", "64"), "--batch-size 64 and --batch-sizes"),
        (("--batch-sizes", "4", "4"), "--batch-sizes has a value twice: 4 4"),
        (("--dtypes",), "--dtypes needs at least one value"),
        (("--savings",), "--savings needs at least one name"),
        (("--steps", "0"), "--steps must be at least 1"),
    ],
)
def test_bad_input_is_refused_at_once(tmp_path, capsys, arguments, message):
    assert command(r4_batch_sizes.main, *arguments, "--out", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def as_published(scale: float = 1) -> list[StepMemory]:
    """Steps that took what the talk's did; the largest's time and memory scaled."""
    steps = []
    for size, mib, minutes in zip(*ROWS.values(), strict=True):
        by = scale if size == 256 else 1
        seconds = [by * minutes * 60 * size / EPOCH_IMAGES] * 2 if minutes > 0 else []
        peak = int(by * mib * 2**20)
        steps.append(StepMemory(size, "", "gpu", before=0, peak=peak, seconds=seconds))
    return steps


def report_on(directory: Path, steps: list[StepMemory], **options: object) -> Report:
    series = {("float32", "none"): BatchSizes("float32", steps)}
    return r4_batch_sizes.report(replace_options(R4Settings(), **options), series, directory)


def test_the_talks_own_steps_give_its_table_and_what_it_says(tmp_path):
    report = report_on(tmp_path, as_published())
    for row in rows_of(report).values():
        assert row["measured\nMiB"] == row["A6000\nMiB"]
        assert row["epoch (min)"].partition(".")[0] == row["A6000\nepoch (min)"]
    card, own = report.tables[0].rows
    assert card[1:-1] == own[1:-1]
    for table in report.tables:
        assert ("in brackets" in table.note) == ("compiled\nMiB" in table.columns)
    assert [claim.agrees for claim in report.claims] == ["yes"] * 3
    assert all((tmp_path / plot).stat().st_size > 0 for plot in report.plots)


def test_other_steps_get_other_verdicts(tmp_path):
    slower = report_on(tmp_path, as_published(1.5))
    assert [claim.agrees for claim in slower.claims] == ["no"] * 3
    few = report_on(tmp_path, as_published()[:3])
    assert [claim.agrees for claim in few.claims] == ["cannot say", "yes", "cannot say"]
    other = report_on(tmp_path, as_published(), model="resnet50")
    assert [claim.agrees for claim in other.claims] == ["cannot say"] * 3
