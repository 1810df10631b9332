"""How figures are written."""

from jaxresnet.report.tables import Table, number, percent, seconds, signed


def test_figures_are_rounded_and_missing_ones_are_dashes():
    assert number(1234.567) == "1,234.57"
    assert number(28_000_000_000.0, 3) == "2.8e+10"
    assert seconds(12.34) == "12.3"
    assert seconds(1350.2) == "1350"
    assert percent(0.7193) == "71.9"
    assert [signed(value) for value in (1234.504, -0.3, -0.001)] == ["+1,234.50", "-0.30", "+0.00"]
    assert number(None) == seconds(None) == percent(None) == "-"


def test_markdown_aligns_figures_to_the_right():
    table = Table("Times", ["epoch", "in\ns"], [["1", "2.0"]], "A note.")
    assert table.to_markdown() == (
        "### Times\n\n| epoch | in s |\n| :-- | --: |\n| 1 | 2.0 |\n\nA note.\n"
    )
