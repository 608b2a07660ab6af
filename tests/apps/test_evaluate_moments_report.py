"""The report of `retain eval moments`: what it says, what it shows, and how the command ends."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict
from html import escape, unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from retain.apps.cli import app
from retain.apps.evaluate_moments import run
from retain.apps.evaluate_moments.charts import Axis, Point, dots, scatter
from retain.apps.evaluate_moments.report import write_report
from retain.apps.evaluate_moments.results import Bar, Score, Table, load
from retain.apps.evaluate_moments.tables import Options
from retain.apps.evaluate_moments.verdicts import (
    best,
    differ,
    estimate,
    figure,
    groups,
    leads,
    sentences,
    summary,
)
from retain.datasets.bootstrap import of_mean

SEEDS = 8


def near(mean: float, spread: float = 0.02, seeds: int = SEEDS) -> list[float]:
    return [mean + spread * math.sin(k) for k in range(seeds)]


def recall_table(bar: float = 0.5) -> Table:
    """Robust leads on one stream; on the other a heap does, and an offline choice on both."""
    means = {
        ("robust", "calm"): 0.9,
        ("heap <b>", "calm"): 0.6,
        ("k-centre", "calm"): 0.97,
        ("robust", "busy"): 0.5,
        ("heap <b>", "busy"): 0.8,
        ("k-centre", "busy"): 0.95,
    }
    scores = [
        Score(row, column, stream, near(mean))
        for (row, stream), mean in means.items()
        for column in ("held, 0-30 s", "detail, 0-30 s")
    ]
    return Table("recall", "Held & found", "note <i>", scores, [Bar("robust <u>", 0.7, bar)])


def written(tmp_path: Path, *tables: Table, quick: bool = False) -> str:
    where = {"command": "retain eval moments", "quick": quick, "commit": "abc"}
    return write_report(tmp_path / "report.html", tables, where).read_text("utf-8")


def test_every_row_column_and_stream_is_in_the_report_escaped(tmp_path: Path) -> None:
    page = written(tmp_path, recall_table())
    for text in ("robust", "heap &lt;b&gt;", "k-centre", "held, 0-30 s", "calm", "busy"):
        assert f">{text}<" in page
    assert "Held &amp; found" in page
    assert "note &lt;i&gt;" in page
    assert "robust &lt;u&gt;" in page
    assert "<b>" not in page
    assert not re.search(r"""(src|href)=["'](?!#)|url\(|<script""", page)  # loads and runs nothing


def test_cells_show_the_bootstrap_interval_of_their_values(tmp_path: Path) -> None:
    values = near(0.5, 0.1)
    page = written(tmp_path, Table("t", "T", "", [Score("robust", "c", "s", values)]))
    mean, low, high = of_mean(values)
    assert f"{mean:.3f} <small>{low:.3f}–{high:.3f}</small>" in page


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=4))
def test_streams_weigh_the_same_and_the_mean_lies_in_its_interval(cells: list[list[float]]) -> None:
    scores = [Score("r", "c", str(k), cell) for k, cell in enumerate(cells)]
    found = estimate(scores)
    assert found.mean == pytest.approx(np.mean([np.mean(cell) for cell in cells]))
    everything = [v for cell in cells for v in cell]
    assert min(everything) - 1e-9 <= found.low <= found.high <= max(everything) + 1e-9
    assert (found.streams, found.values) == (len(cells), len(everything))


def test_one_stream_has_the_interval_of_its_seeds() -> None:
    values = near(0.3)
    found = estimate([Score("r", "c", "s", values)])
    assert (found.mean, found.low, found.high) == pytest.approx(of_mean(values))


def test_the_best_causal_row_is_marked_and_offline_ones_are_not(tmp_path: Path) -> None:
    page = written(tmp_path, recall_table())
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = dict(re.findall(r"<tr[^>]*><td>(.*?)</td>(.*?)</tr>", body))
    assert "n best" in rows["robust"]  # 0.7 pooled, the heap too: level
    assert "n best" in rows["heap &lt;b&gt;"]
    assert "n best" not in rows["k-centre"]
    assert best({"a": 1.0, "b": 2.0, "uniform": 3.0}, True) == {"b"}
    assert best({"a": 1.0, "b": 2.0}, False) == {"a"}
    assert best({"uniform": 1.0}, True) == set()


def test_a_baseline_that_wins_is_said(tmp_path: Path) -> None:
    ahead, compared = leads(recall_table(), "held, 0-30 s")
    assert compared == 2
    assert [(lead.row, lead.stream, lead.clear) for lead in ahead] == [("heap <b>", "busy", True)]
    text = sentences(recall_table())[0]
    assert "best or level on 1 of 2" in text
    assert "A baseline is ahead on 1: heap <b> on busy" in text
    assert "clearly" in text
    assert text in unescape(written(tmp_path, recall_table()))


def test_the_summary_counts_columns_and_names_who_wins_the_others(tmp_path: Path) -> None:
    table = recall_table()
    gaps = {"recent": 1.5, "robust": 3.0, "heap <b>": 2.0, "k-centre": 0.5}
    table.scores.extend(
        Score(row, "gap", stream, [value], higher_is_better=False)
        for row, value in gaps.items()
        for stream in ("calm", "busy")
    )
    table.scores.extend(
        Score("recent", column, stream, near(0.1))
        for column in ("held, 0-30 s", "detail, 0-30 s")
        for stream in ("calm", "busy")
    )
    assert summary(table) == (
        "robust has the best mean in 2 of 3 comparisons; "
        "elsewhere gap: recent (1.500 against 3.00)."
    )
    assert escape(summary(table)) in written(tmp_path, table)
    assert summary(Table("t", "", "", [Score("robust", "c", "s", [1.0])])) == ""


def test_ablations_are_told_as_changes_of_ours() -> None:
    rows = {"robust": 0.8, "lambda 0": 0.85, "fifo": 0.1, "score": 0.7}
    scores = [Score(row, "held", "s", near(value)) for row, value in rows.items()]
    table = Table("ablations", "", "", scores)
    assert sentences(table) == [summary(table)]
    assert summary(table).startswith("held, robust 0.8")
    assert "2 of 3 changes are worse, the most fifo (0.1" in summary(table)
    assert "Better: lambda 0 (0.8" in summary(table)


def test_the_lower_wins_where_lower_is_better() -> None:
    scores = [
        Score("robust", "distance", "s", near(0.2), higher_is_better=False),
        Score("reservoir", "distance", "s", near(0.1), higher_is_better=False),
        Score("recent", "distance", "s", near(0.9), higher_is_better=False),
    ]
    ahead, _ = leads(Table("coverage", "", "", scores), "distance")
    assert [lead.row for lead in ahead] == ["reservoir"]
    swapped = [scores[0], scores[2]]
    assert "no baseline is ahead of robust" in sentences(Table("c", "", "", swapped))[0]


def test_differences_are_paired_by_seed_and_few_seeds_decide_nothing() -> None:
    base = [0.1, 0.5, 0.9, 0.3, 0.7]
    up = [v + 0.01 for v in base]  # far less than the spread, but on every seed
    assert differ(Score("a", "c", "s", up), Score("b", "c", "s", base))
    assert not differ(Score("a", "c", "s", up[:4]), Score("b", "c", "s", base))
    assert not differ(Score("a", "c", "s", [1.0, 1.0]), Score("b", "c", "s", [0.0, 0.0]))
    assert differ(Score("a", "c", "s", [5.0, 5.1, 5.2]), Score("b", "c", "s", base))


def test_streams_with_other_rows_are_never_pooled(tmp_path: Path) -> None:
    table = recall_table()
    table.scores.append(Score("pixels", "held, 0-30 s", "film", near(0.4)))
    table.scores.append(Score("robust", "held, 0-30 s", "film", near(0.6)))
    found = groups(table)
    assert [group.streams for group in found] == [["calm", "busy"], ["film"]]
    assert set(found[1].rows) == {"pixels", "robust"}
    assert "<h3>film</h3>" in written(tmp_path, table)


def test_a_changed_number_is_drawn_as_a_curve_through_the_default(tmp_path: Path) -> None:
    rows = ["robust", "lambda 0 (default 0.2)", "lambda 1", "eviction: fifo"]
    scores = [Score(row, "held", "s", near(0.1 * k)) for k, row in enumerate(rows)]
    page = written(tmp_path, Table("ablations", "A", "", scores))
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    curve = next(f for f in figures if "held over lambda" in f)
    assert re.findall(r'class="tick middle"[^>]*>([^<]*)<', curve) == ["0", "0.2", "1"]
    assert '<g class="ours"><title>robust' in curve
    assert "fifo" not in curve
    assert "eviction: fifo" in page


def test_memory_against_length_is_drawn_over_the_length(tmp_path: Path) -> None:
    scores = [
        Score("robust", f"held, KiB, after {n} frames", "s", [40.0], False)
        for n in ("1,000", "10,000", "100,000")
    ]
    scores.append(Score("robust", "decision, us", "s", near(5.0), False))
    page = written(tmp_path, Table("cost", "C", "", scores))
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert [re.findall(r"<figcaption>([^<]*?)(?: <|<)", f)[0] for f in figures] == [
        "robust: held, KiB",
        "decision, us",
    ]
    assert len(re.findall("<circle", figures[0])) == 3


def test_boundaries_are_drawn_by_cost_and_say_who_waits(tmp_path: Path) -> None:
    rows = {"boundaries": (0.9, 0.3, 0.0), "TransNetV2": (0.95, 15.0, 74.0)}
    scores = [
        Score(row, column, "spliced", [value], column.startswith("F1"))
        for row, values in rows.items()
        for column, value in zip(
            ("F1 +-2", "CPU ms a frame", "look-ahead, frames"), values, strict=True
        )
    ]
    table = Table("boundaries", "B", "", scores)
    page = written(tmp_path, table)
    assert ">TransNetV2, waits 74 frames<" in page
    assert '<tr class="offline"><td>TransNetV2' in page
    said = " ".join(sentences(table))
    assert "TransNetV2 on spliced (0.950 against 0.900, waiting 74 frames)" in said
    assert "look-ahead" not in said
    assert summary(table) == ""  # nobody else answers at once


def test_missing_tables_and_values_are_no_trouble(tmp_path: Path) -> None:
    assert "There are no tables." in written(tmp_path)
    empty = Table("t", "T", "", [Score("robust", "c", "s", []), Score("recent", "c", "s", [1.0])])
    page = written(tmp_path, empty)
    assert ">nan" not in page.lower()
    assert "promise nothing" in page
    assert "a look and not a result" not in page
    assert "a look and not a result" in written(tmp_path, recall_table(), quick=True)


def test_missed_bars_come_first(tmp_path: Path) -> None:
    bars = [Bar(f"good {k}", 1.0, 0.5) for k in range(9)] + [Bar("bad", 25.0, 20.0, False)]
    page = written(tmp_path, Table("t", "T", "", [Score("robust", "c", "s", [1.0])], bars))
    assert "1 of 10 are missed." in page
    assert "9 of 10" in page
    assert page.index(">bad<") < page.index(">good 0<")
    assert page.count("MISSED") == 1
    assert "3 more, all met" in page


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.booleans())
def test_an_axis_holds_its_values_in_order(values: list[float], zero: bool) -> None:
    axis = Axis(values, 10, 200, zero=zero)
    places = [axis.at(v) for v in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 200 for place in places)
    assert all(a < b for a, b in pairwise(axis.ticks))


def test_labels_of_equal_points_do_not_cover_each_other() -> None:
    same = estimate([Score("r", "c", "s", [0.5])])
    drawing = scatter([Point(f"p{k}", same, x=1.0) for k in range(6)], "t", "x")
    heights = sorted(float(y) for y in re.findall(r'class="name" x="\d+" y="([\d.]+)"', drawing))
    assert len(heights) == 6
    assert all(b - a >= 15.9 for a, b in pairwise(heights))


def test_dots_are_at_their_values() -> None:
    points = [Point("a", estimate([Score("a", "c", "s", [v])])) for v in (0.0, 0.25, 1.0)]
    xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', dots(points, "t"))]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(0.25, abs=0.01)


def test_figures_have_the_digits_that_matter() -> None:
    assert [figure(v) for v in (0.96, 1.0, 0.00312, 5.41, 364.2, math.nan)] == [
        "0.960", "1.000", "0.00312", "5.41", "364", "–",
    ]  # fmt: skip
    assert figure(0.0083, 0.97) == "0.008"
    assert figure(0.131, 15.4) == "0.131"  # no share: its own digits


Maker = Callable[[Options, Callable[[str], None]], Table]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Two tables that take no time: one meets its bar, one does not. Counts how often made."""
    made = {"good": 0, "bad": 0}

    def maker(name: str, bar: float) -> Maker:
        def make(options: Options, tell: Callable[[str], None]) -> Table:
            made[name] += 1
            tell(f"{name} [eval]")
            table = recall_table(bar)
            return Table(name, table.title, table.note, table.scores, table.bars)

        return make

    monkeypatch.setattr(run, "TABLES", {"good": maker("good", 0.5), "bad": maker("bad", 0.9)})
    return made


def test_the_command_ends_with_1_when_a_bar_is_missed(tmp_path: Path, fake: dict[str, int]) -> None:
    place = ["eval", "moments", "--out", str(tmp_path / "out")]
    good = CliRunner().invoke(app, [*place, "--only", "good", "--json", str(tmp_path / "t.json")])
    assert good.exit_code == 0, good.output
    assert "1 of 1 bars met" in good.stdout
    assert "MISSED" not in good.stdout
    assert "heap <b>" in good.stdout
    assert [table.name for table, _ in load(tmp_path / "t.json")] == ["good"]
    both = CliRunner().invoke(app, place)
    assert both.exit_code == 1
    assert "MISSED  robust <u>: 0.70" in both.stdout
    assert "1 of 2 bars met" in both.stdout
    assert fake == {"good": 1, "bad": 1}  # what was there was not made again
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert 'id="good"' in page
    assert 'id="bad"' in page
    assert load(tmp_path / "out" / "moments.json")[0][1] == asdict(Options())
    other = CliRunner().invoke(app, [*place, "--seeds", "3"])
    assert other.exit_code == 1
    assert fake == {"good": 2, "bad": 2}


def test_an_unknown_table_is_refused(tmp_path: Path, fake: dict[str, int]) -> None:
    done = CliRunner().invoke(app, ["eval", "moments", "--only", "gud", "--out", str(tmp_path)])
    assert done.exit_code != 0
    assert "Unknown table 'gud'" in str(done.exception)
    assert fake == {"good": 0, "bad": 0}
