"""Running evaluators, joining what they report, and telling it as tables."""

from typing import Any

import pytest

from tests.core.toy_evaluators import BOTH, SPLITS, ToyOptions, figure, registered
from vlv_core.errors import ConfigError, MissingExtra, PluginError
from vlv_core.evaluation import SCHEMA, Watcher, evaluate, interval, markdown, tables
from vlv_core.registry import Plugins
from vlv_core.strips import Row


class Subject:
    """Evaluators ask a captioner for more; the runner for these two."""

    name, domain = "model@1", "toys, and nothing else"


class Remembering(Watcher):
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.shown: list[Row] = []

    def progress(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))

    def show(self, row: Row) -> None:
        self.shown.append(row)


def run(plugins: Plugins = BOTH, **given: Any) -> dict[str, Any]:
    return evaluate(Subject(), plugins=plugins, **given)


def test_the_report_joins_all_evaluators() -> None:
    report = run()
    assert report["schema"] == SCHEMA
    assert (report["model"], report["domain"]) == (Subject.name, Subject.domain)
    assert report["splits"]["iid"]["f1"]["value"] == 0.5
    assert report["speed"]["cpu"]["pictures_per_s"]["value"] == 90
    assert set(report["evaluators"]) == {"toy-splits", "toy-speed"}


def test_the_report_holds_the_resolved_options() -> None:
    report = run(names=["toy-splits"], options={"seed": 3})
    assert report["evaluators"]["toy-splits"]["options"] == {"captions": 10, "seed": 3}
    assert report["evaluators"]["toy-splits"]["seconds"] >= 0
    assert "speed" not in report


def test_defaults_go_to_those_that_have_them_and_options_win() -> None:
    defaults = {"captions": 5, "seed": 1, "elsewhere": True}
    report = run(names=["toy-splits"], options={"seed": 2}, defaults=defaults)
    assert report["evaluators"]["toy-splits"]["options"] == {"captions": 5, "seed": 2}
    assert run(defaults=defaults)["evaluators"]["toy-speed"]["options"] == {}


def test_the_watcher_is_told_and_shown() -> None:
    watcher = Remembering()
    run(watcher=watcher, options={"captions": 4}, names=["toy-splits"])
    assert watcher.told == [("captions", 4, 4)]
    [row] = watcher.shown
    assert [line.right for line in row.lines] == [None, True]


def test_options_that_an_evaluator_lacks() -> None:
    with pytest.raises(
        ConfigError, match="evaluator toy-splits: no key 'sed'; did you mean 'seed'"
    ):
        run(names=["toy-splits"], options={"sed": 1})
    with pytest.raises(ConfigError, match="no key 'seed'; it takes no options"):
        run(names=["toy-speed"], options={"seed": 1})


def test_an_unknown_evaluator_names_those_there_are() -> None:
    with pytest.raises(PluginError, match="no evaluator named 'toy-split'; did you mean"):
        run(names=["toy-split"])


def test_no_evaluator_at_all() -> None:
    with pytest.raises(PluginError, match="no evaluator is installed"):
        run(Plugins())


def test_two_evaluators_with_one_group() -> None:
    twin = registered("other", "splits", config=ToyOptions)
    with pytest.raises(PluginError, match="'toy-splits' reports 'splits', which is in the report"):
        run(Plugins(registered=(twin, SPLITS)))


def test_a_missing_library_names_its_extra() -> None:
    lame = registered("lame", "splits", requires=("no_such_library",), extra="models")
    with pytest.raises(MissingExtra, match="evaluator 'lame': no_such_library is not") as told:
        run(Plugins(registered=(lame,)))
    assert told.value.hint == "pip install 'vlv[models]' supplies it"


def test_tables_leave_gaps_where_an_entry_has_no_such_figure() -> None:
    speed, splits = tables(run())
    assert (speed.title, speed.columns) == ("speed", ["cpu"])
    assert (splits.title, splits.columns) == ("splits", ["iid", "noise"])
    assert splits.rows == {"f1": [figure(0.5), figure(0.25)], "words": [figure(12.0), None]}


def test_markdown_tells_domain_options_and_intervals() -> None:
    text = markdown(run(names=["toy-splits"]))
    assert text.startswith("# Evaluation of model@1\n\ntoys, and nothing else\n")
    assert "Evaluator `toy-splits`: captions 10, seed 0; " in text
    assert "| | iid | noise |\n|---|---|---|\n" in text
    assert "| f1 | 0.500 (0.400 to 0.600) | 0.250 (0.150 to 0.350) |" in text
    assert "| words | 12.000 (11.900 to 12.100) | - |" in text


def test_interval_of_nothing_is_a_dash() -> None:
    assert interval(None) == "-"
