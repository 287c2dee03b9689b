"""Plots as SVG, by pygal: pictures without scripts and without anything loaded.

Their ground is white on dark pages, too: whether a picture learns of the reader's colours differs between browsers.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pygal
from pygal.style import Style

from reports.pages.model import Figure
from reports.safe_text import printable

# pygal leaves a finder of the old kind behind, for maps that we do not draw: every import that follows warns of it
# (pygal 3.0.5, Python 3.11, run).
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

# Okabe and Ito's colours, told apart by those who do not see all colours; yellow is left out, it vanishes on white.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#7F7F7F", "#4B3A8C")
_LABELS_SHOWN = 8
_WIDTH, _HEIGHT, _BAR_HEIGHT, _HEAD_HEIGHT = 800, 340, 30, 90
_STYLE = Style(
    background="white",
    plot_background="white",
    foreground="#333333",
    foreground_strong="#222222",
    foreground_subtle="#bbbbbb",
    guide_stroke_color="#d4d4d4",
    guide_stroke_dasharray="none",
    major_guide_stroke_color="#d4d4d4",
    major_guide_stroke_dasharray="none",
    colors=_COLOURS,
    font_family="system-ui, sans-serif",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=12,
    no_data_font_size=18,
    opacity=".85",
    transition="0s",
)


def draw(figure: Figure) -> bytes:
    """The SVG of a figure. Texts are escaped, their control characters visible; there is no script in it."""
    chart = _FORMS[figure.form](figure)
    chart.no_data_text = "No data"
    chart.add_xml_filter(_without_scripts)
    picture: bytes = chart.render(disable_xml_declaration=False)
    return picture


def _lines(figure: Figure) -> Any:  # noqa: ANN401 - pygal has no types
    # A dot takes pygal as long as ten days of a line: they stand at the days that are named, and where a day is alone.
    few = not any(map(_has_lone_days, figure.series.values()))
    options = _options(figure) | {"show_only_major_dots": few}
    chart = pygal.Line(range=(0, 1), value_formatter="{:.0%}".format, dots_size=2, **options)
    return _with_days(chart, figure)


def _has_lone_days(values: Sequence[float | None]) -> bool:
    """Whether a value has none before it and none after it: there is no line through it."""
    around = [None, *values, None]
    return any(
        before is None and value is not None and after is None
        for before, value, after in zip(around, around[1:], around[2:], strict=False)
    )


def _stacked(figure: Figure) -> Any:  # noqa: ANN401 - pygal has no types
    chart = pygal.StackedBar(value_formatter="{:,.0f}".format, spacing=4, **_options(figure))
    return _with_days(chart, figure)


def _with_days(chart: Any, figure: Figure) -> Any:  # noqa: ANN401 - pygal has no types
    chart.x_labels = list(figure.labels)
    step = max(1, -(-len(figure.labels) // _LABELS_SHOWN))
    chart.x_labels_major = list(figure.labels)[::-step][::-1]
    chart.show_minor_x_labels = False
    for name, values in figure.series.items():
        chart.add(printable(name), list(values))
    return chart


def _bars(figure: Figure) -> Any:  # noqa: ANN401 - pygal has no types
    chart = pygal.HorizontalBar(value_formatter="{:,.0f}".format, print_values=True, **_options(figure))
    chart.show_legend = False
    chart.x_labels = [printable(label) for label in reversed(figure.labels)]
    for name, values in figure.series.items():
        chart.add(printable(name), list(reversed(values)))
    return chart


def _box(figure: Figure) -> Any:  # noqa: ANN401 - pygal has no types
    # From the 10th to the 90th percentile would need other data: the whiskers are within 1.5 times the box (Tukey).
    chart = pygal.Box(box_mode="tukey", value_formatter="{:,.1f}".format, **_options(figure))
    for name, values in figure.series.items():
        chart.add(printable(name), list(values))
    return chart


_FORMS: dict[str, Callable[[Figure], Any]] = {"lines": _lines, "stacked": _stacked, "bars": _bars, "box": _box}


def height_of(figure: Figure) -> int:
    """The height of the picture, in units of which it is 800 wide."""
    return _HEAD_HEIGHT + _BAR_HEIGHT * max(1, len(figure.labels)) if figure.form == "bars" else _HEIGHT


def _options(figure: Figure) -> dict[str, Any]:
    return {
        "style": _STYLE,
        "js": [],
        "width": _WIDTH,
        "height": height_of(figure),
        "legend_at_bottom": True,
        "legend_at_bottom_columns": _columns(list(figure.series)),
        "truncate_legend": -1,
        "truncate_label": -1,
        "margin": 12,
        "margin_right": 44,
        "y_title": None,
        "explicit_size": False,
        "include_x_axis": figure.form in ("stacked", "bars"),
        "min_scale": 3,
        "max_scale": 6,
    }


def _columns(names: Sequence[str]) -> int:
    longest = max(map(len, names), default=1)
    return max(1, min(len(names), _WIDTH // (longest * 8 + 40))) if names else 1


def _without_scripts(root: Any) -> Any:  # noqa: ANN401 - an element of ElementTree
    """Pygal writes its configuration as a script, and animates by the pointer: pages show pictures only."""
    for parent in list(root.iter()):
        for child in [child for child in parent if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == "script"]:
            parent.remove(child)
    return root
