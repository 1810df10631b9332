"""R5: memory counted, compiled and measured."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import r5_memory
from experiments.harness import measured_steps, memory_lines, step_memory
from experiments.harness.counted_memory import count_memory, make_difference_table
from experiments.harness.measured_steps import StepMemory, StepSettings
from experiments.harness.memory_findings import COMPILED, COUNTED, MEASURED, TALK, MemoryFindings
from experiments.harness.memory_lines import GIB, MIB, MemoryLine, fit_line, parse_size
from experiments.r5_memory import R5Settings
from jaxresnet.errors import UserError
from jaxresnet.options import replace_options
from jaxresnet.train.log import append_json_line, read_json_lines
from tests.experiments.running import command, row

TINY = ("--model", "resnet18", "--width", "4", "--image-size", "32", "--batch-sizes", "1", "64")
COMPILED_LINE = MemoryLine(160, 600)  # MiB
KINDS: tuple[str, ...] = ("arguments", "outputs", "temporaries", "aliased")


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("r5") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        assert command(r5_memory.main, *TINY, "--out", path, "--fits", "1GiB") == 0
    return path


def made_up(batch_size: int, compiled: MemoryLine = COMPILED_LINE) -> StepMemory:
    """A step that needs so many MiB, and 20 more an image that are not among its buffers."""
    sizes = (400, 400, int(compiled.at(batch_size)) - 400, 400)
    buffers = {kind: MIB * size for kind, size in zip(KINDS, sizes, strict=True)}
    peak = MIB * int(compiled.at(batch_size) + 20 * batch_size)
    return StepMemory(batch_size, "a machine", "gpu", buffers, compile_peak=1, before=1, peak=peak)


def findings_of(settings: R5Settings, *steps: StepMemory) -> MemoryFindings:
    memory = settings.memory
    return MemoryFindings(count_memory(settings), list(steps), "sgd", memory.fits, memory.limit)


@pytest.mark.slow
def test_each_batch_size_is_compiled_and_measured_in_a_process_of_its_own(directory):
    steps = json.loads((directory / "summary.json").read_text())["steps"]
    assert [step["batch_size"] for step in steps] == [1, 64]
    weights = 4 * 2 * 45_000  # about: parameters and momentum of so thin a network, in float32
    for step in steps:
        buffers = step["buffers"]
        assert buffers["arguments"] > weights
        made = sum(buffers[kind] for kind in KINDS[:3])
        assert step["compiled"] == made - buffers["aliased"]
        assert step["before"] + step["measured"] == step["peak"] < step["compile_peak"] + GIB
        assert step["error"] == ""
    # 63 images more, each of which keeps what is counted at least.
    settings = replace_options(StepSettings(), model="resnet18", width=4, image_size=32)
    grown = steps[1]["buffers"]["temporaries"] - steps[0]["buffers"]["temporaries"]
    assert grown > 63 * 4 * count_memory(settings).kept_values


@pytest.mark.slow
def test_the_report_puts_all_answers_side_by_side(directory):
    text = (directory / "report.md").read_text()
    assert "This is not the talk's step: --model resnet18 instead of resnet152" in text
    # 173.47174746172132 and 60,268,520 x 12 bytes; 863 MiB and 137 or 5 images in a GiB.
    assert row(text, TALK)[1:] == ["173.5", "689.7", "863.2", "1"]
    assert row(text, "the talk: allocated, batch 1")[1:] == ["-", "-", "882.7", "-"]
    assert row(text, "the talk: A6000, nvidia-smi")[1:3] == ["182.8", "2,341.7"]
    for title in (COUNTED, COMPILED, MEASURED):
        assert len(row(text, title)) == 5
    assert row(text, "128")[1] == "25,118"
    assert "cannot say: this run does not follow the published protocol" in text
    largest = row(text, MEASURED)[-1]
    assert f'The largest batch that fits into 1GiB is {largest}, by the line "{MEASURED}".' in text
    assert "From the talk's sum to this count" not in text
    assert (directory / "memory_by_batch_size.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_same_command_again_measures_nothing(directory, monkeypatch):
    monkeypatch.setattr(measured_steps, "subprocess_status", lambda *_: pytest.fail("it measures"))
    assert command(r5_memory.main, *TINY, "--out", directory, "--fits", "2GiB") == 0
    assert "fits into 2GiB" in (directory / "report.md").read_text()


def test_the_talks_sum_is_rebuilt_and_explained_to_the_last_value():
    line = memory_lines.talk_line()
    assert line.per_image / MIB == 173.47174746172132  # what the talk's program prints
    assert round(line.fixed / MIB, 2) == 689.72  # the talk cuts the third decimal off
    counted = count_memory(R5Settings())
    assert counted.parameters == 60_268_520
    assert counted.kept_values == 43_956_224
    steps = {name: float(value) for name, value in make_difference_table(counted).rows}
    assert steps["the rest"] == 0
    *parts, counted_here = list(steps.values())
    assert sum(parts) == pytest.approx(counted_here, abs=5e-4)
    assert counted_here == pytest.approx(43_956_224 * 4 / MIB, abs=5e-5)


def test_bfloat16_halves_what_an_image_keeps_and_not_the_weights():
    wide = count_memory(R5Settings()).line("sgd")
    narrow = count_memory(replace_options(R5Settings(), dtype="bfloat16")).line("sgd")
    assert (narrow.per_image, narrow.fixed) == (wide.per_image / 2, wide.fixed)


def test_the_talks_own_step_is_held_against_the_talk(tmp_path):
    settings = replace_options(R5Settings(), batch_sizes=(1, 4), fits="24GiB")
    findings = findings_of(settings, made_up(1), made_up(4))
    text = r5_memory.report(settings, findings, tmp_path).to_markdown()
    assert "This is not the talk's step" not in text
    # 24 GiB are 24,576 MiB: (24,576 - 600) / 160 and / 180.
    assert row(text, COMPILED)[1:] == ["160.0", "600.0", "760.0", "149"]
    assert row(text, MEASURED)[1:] == ["180.0", "600.0", "780.0", "133"]
    assert f'The largest batch that fits into 24GiB is 133, by the line "{MEASURED}".' in text
    assert row(text, "1")[-2:] == ["760", "780"]
    assert row(text, "2")[-2:] == ["(920)", "(960)"]  # not tried
    verdicts = dict(re.findall(r"^\| (.+) \| .+ \| ([a-z ]+)[^|]*\|$", text, re.MULTILINE))
    assert verdicts["the listed activations of an image take 173.4717 MiB"].strip() == "yes"
    assert verdicts["an image takes 173.47 MiB"].strip() == "yes"
    assert verdicts["batch 1 takes 0.862 GiB"].strip() == "no"
    assert "compiled here -14%, measured here -12%" in text  # 760 and 780 of 882.7 MiB
    assert "8 of the talk's 10 rows lie there" in text


def test_the_answers_are_held_against_each_other(tmp_path):
    def explain(step: MemoryLine, **options: object) -> list[str]:
        settings = replace_options(R5Settings(), **options)
        steps = [made_up(n, step) for n in (1, 4)]
        report = r5_memory.report(settings, findings_of(settings, *steps), tmp_path)
        return list(report.findings)

    # 43,956,224 values, and 60,268,520 parameters, gradients and momenta, of 4 bytes.
    counted, compiled, card = explain(COMPILED_LINE)
    assert counted == (
        "Of an image the backward pass needs 167.7 MiB, as counted; parameters, gradients and "
        "optimizer state are 689.7 MiB."
    )
    assert compiled == (
        "The compiled step takes 160.0 MiB an image, 7.7 less than that, and 600.0 MiB besides, "
        "89.7 less."
    )
    assert card == (
        "The talk's A6000 took 182.8 MiB an image, 9.3 more than the talk computed, and 2,341.7 "
        "MiB besides, 1,652.0 more."
    )
    _, compiled, _ = explain(MemoryLine(170, 700))
    assert "170.0 MiB an image, 2.3 more than that, and 700.0 MiB besides, 10.3 more." in compiled
    for options, without in (
        ({"remat": True}, "--remat"),
        ({"remat": True, "accumulate": 2}, "--remat and --accumulate"),
    ):
        counted, *_ = explain(MemoryLine(60, 600), **options)
        assert f"the backward pass would need, without {without}, 167.7 MiB" in counted


def test_what_fits_is_by_the_compiled_step_if_too_little_was_measured(tmp_path):
    settings = replace_options(R5Settings(), fits="24GiB")
    second = dataclasses.replace(made_up(4), peak=None, error="ended by signal 9")
    for steps, answer in (
        ((made_up(1), second), f'fits into 24GiB is 149, by the line "{COMPILED}".'),
        ((made_up(1),), "Which batch fits into 24GiB cannot be said"),
    ):
        report = r5_memory.report(settings, findings_of(settings, *steps), tmp_path)
        assert answer in report.findings[-1]


def test_what_does_not_fit_is_a_row(tmp_path):
    settings = replace_options(R5Settings(), batch_sizes=(1, 512))
    too_large = StepMemory(512, "a machine", "gpu", error="out of memory")
    findings = findings_of(settings, made_up(1), too_large)
    text = r5_memory.report(settings, findings, tmp_path).to_markdown()
    assert row(text, "512")[-2:] == ["-", "out of memory"]  # one point makes no line
    assert COMPILED not in findings.lines


def test_a_process_that_is_killed_for_its_memory_does_not_keep_the_others(tmp_path, monkeypatch):
    def run(_module: str, arguments: list[str], _environment: dict[str, str]) -> int:
        size = int(arguments[arguments.index("--batch-size") + 1])
        log = Path(arguments[arguments.index("--log") + 1])
        if size == 8:
            return -9
        step = {**vars(made_up(size)), "error": ""}
        append_json_line(log, step)
        return 0

    monkeypatch.setattr(measured_steps, "subprocess_status", run)
    arguments = [*TINY[:-2], "8", "1", "2"]
    assert command(r5_memory.main, *arguments, "--out", tmp_path / "some") == 0
    text = (tmp_path / "some" / "report.md").read_text()
    assert row(text, "8")[-1] == "ended by signal 9"
    assert command(r5_memory.main, *TINY[:-2], "8", "--out", tmp_path / "none") == 1


def test_a_step_that_fails_for_another_reason_ends_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measured_steps, "subprocess_status", lambda *_: 1)
    assert command(r5_memory.main, *TINY, "--out", tmp_path) == 1
    assert "batch size 1 failed: its message is above" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory."), MemoryError()]
)
def test_the_measuring_process_notes_that_the_memory_is_short(tmp_path, monkeypatch, error):
    def compile_step(_settings: StepSettings) -> None:
        raise error

    monkeypatch.setattr(step_memory, "compile_step", compile_step)
    log = tmp_path / "log.jsonl"
    assert command(step_memory.main, "--batch-size", "3", "--log", log) == 0
    line = read_json_lines(log)[-1]
    assert line == {"batch_size": 3, "error": "out of memory"}


def test_lines_go_through_their_points_and_answer_what_fits():
    line = fit_line({1: 110.0, 3: 130.0, 10: 200.0})
    assert line is not None
    np.testing.assert_allclose((line.per_image, line.fixed), (10, 100))
    assert MemoryLine(10, 100).largest_batch(199) == 9
    assert MemoryLine(10, 100).largest_batch(50) == 0
    assert MemoryLine(-1, 100).largest_batch(50) is None
    assert fit_line({1: 110.0}) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * 2**30), ("24GB", 24e9), ("40960MiB", 40 * 2**30), ("1.5 gib", 1.5 * 2**30)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text, "--fits") == size


@pytest.mark.parametrize("text", ["24", "GiB", "-1GiB", "0GiB", "24 parsecs", "nanGiB", ""])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UserError, match=r"--fits is .*, but takes a size such as 24GiB"):
        parse_size(text, "--fits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fits", "24"], "--fits is 24, but takes a size such as 24GiB, 24GB or 40960MiB"),
        (["--batch-sizes", "0"], "--batch-sizes must be at least 1"),
        (["--batch-sizes", "2", "2"], "--batch-sizes has a value twice"),
        (["--batch-sizes"], "--batch-sizes needs at least one value"),
        (["--image-size", "0"], "--image-size must be at least 1"),
        (["--batch-size", "4"], "--batch-size 4 and --batch-sizes 1 2 4 8 contradict each other"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(arguments, message, tmp_path, capsys):
    assert command(r5_memory.main, *arguments, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
