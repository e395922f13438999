"""The report: what it says of a run, that nothing a model wrote acts, and what a browser makes of it."""

import json
import re
import time
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_hex

import envs
import spg_trainer
from spg_trainer import CompareCommand, cli, compare, diff
from spg_trainer.errors import ConfigError
from spg_trainer.reporting import curves, page
from spg_trainer.reporting.curves import (
    COLOURS,
    NARROW,
    PANELS,
    PARTS,
    WIDE,
    aligned,
    column,
    draw_figure,
    draw_panels,
)
from spg_trainer.reporting.page import fitting, report
from spg_trainer.reporting.runs import group_by_setting, read_run
from spg_trainer.training.loop import train
from tests.common.browser import CHROMIUM, chromium
from tests.common.report_cases import HOSTILE, completions, write_run
from tests.common.trainer_cases import small_config

WIDTHS, SCHEMES = ((1200, 900), (800, 900), (390, 844)), ("light", "dark")
SCRIPT = """
var at = (id) => document.getElementById(id);
var count = (which) => document.querySelectorAll(which).length;
var set = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("input")); };
"""
"""What the test's expressions use; each of them is run on the page."""
SMALLEST = """
Math.min(...[...document.querySelectorAll("body *")].flatMap((e) => {
  const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!words || ["SCRIPT", "OPTION"].includes(e.tagName) || !e.getBoundingClientRect().width) return [];
  const size = parseFloat(getComputedStyle(e).fontSize), matrix = e.closest("svg") && e.getScreenCTM();
  const behind = e.dataset.step ? [parseFloat(getComputedStyle(e, "::after").fontSize)] : [];
  return [matrix ? size * Math.hypot(matrix.a, matrix.b) : size, ...behind];
}))
"""
"""The smallest text on the page in pixels, that of figures as large as it is drawn."""


OVERPRINTED = """
[...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")], box = (e) => e.getBoundingClientRect();
  const steps = texts.filter((t) => t.textContent.trim() === "step");
  const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  return steps.flatMap((s) => texts.filter((t) => t !== s && meets(box(s), box(t))).map((t) => t.textContent));
}).join()
"""
"""The texts of figures over which the name of their axis is printed."""


class Page(HTMLParser):
    """Every tag of a page with its attributes, and the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.script = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.text += " " * (tag == "td")

    def handle_data(self, data):
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if attributes.get("id") == "data":
            self.script += data
        elif tag not in ("script", "style"):
            self.text += data

    @property
    def sets(self):
        """The completions of the first run, by set."""
        return json.loads(self.script.partition('"use strict"')[0])[0]["sets"]

    @property
    def said(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def html(folder):
    return report(folder).html


@pytest.fixture
def group_signal(monkeypatch):
    """The panel of that name, and the only one that is drawn."""
    (panel,) = [panel for panel in PANELS if panel.parts]
    monkeypatch.setattr(curves, "PANELS", (panel,))
    return panel


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take most of a report's time, and most tests ask for what stands beside them."""
    monkeypatch.setattr(page, "draw_panels", lambda groups: [])


def test_the_page_says_before_after_kept_step_and_cost(html):
    said = Page(html).said
    assert "50.0% before training → 87.5% after training" in said
    assert "[25.0%, 75.0%], [43.8%, 93.8%]" in said
    assert "model/ is step 2, by a rule. The last, step 4, has 0.500." in said
    assert "whole run 1:02:03" in said and "tokens sampled 400" in said and "tokens a second 50" in said


def test_the_page_opens_with_the_task_and_what_completions_follow(html):
    said = Page(html).said
    assert said.index("4x4 and 9x9 Sudoku") < said.index("before training")
    assert (
        "What completions follow, before and after training: right 3, careless 5 -> right 3, careless 5 of 8"
        in said
    )


def test_the_group_signal_is_what_groups_are_like_in_parts_of_one(folder, group_signal):
    run = read_run(folder)
    parts = [column(run, name)[1] for name in group_signal.parts]
    assert parts == [0.25, 0.25, 0.375, 0.125]
    (drawn,) = draw_panels({"one": [run]})
    assert drawn["title"] == group_signal.title
    shown = zip(group_signal.parts, parts, strict=True)
    assert all(f"{name} {part:.2f}" in drawn["svg"] for name, part in shown)
    titles = [one["title"] for one in draw_panels({"one": [run], "two": [run]})]
    assert f"{group_signal.title}: mixed" in titles


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_the_name_of_an_axis_stands_clear_of_the_legend(folder, width):
    """Whatever the panel's height, and however many lines the legend has."""
    run = read_run(folder)
    for groups, names in (({"one": [run]}, ["correct"]), ({"one": [run]}, ["rewards/correct/mean"] * 3)):
        figure = draw_figure({"": groups}, names=names, width=width)
        figure.canvas.draw()
        (axes,) = figure.axes
        name, legend = axes.xaxis.label.get_window_extent(), axes.get_legend().get_window_extent()
        assert legend.y1 <= name.y0 and name.y0 - legend.y1 < 20


def test_counts_that_overlap_are_said_as_such_once(folder, html):
    run = read_run(folder)

    def said(right: int, careless: int, none: int) -> str:
        counts = {"right": right, "careless": careless, "none of these": none}
        sets = [replace(one, figures={**one.figures, "follows": counts, "n": 8}) for one in run.before_after]
        return replace(run, evaluations=sets).follows

    both = said(2, 7, 1)
    assert both.count("counts for both") == 1 and both.startswith("right 2, careless 7, none of these 1 -> ")
    assert "both" not in said(1, 6, 1)


def test_how_problems_were_drawn_is_a_panel_where_a_run_says_it(folder):
    run = replace(read_run(folder), evaluations=[])
    drawn = {"rollout_batches": 3, "groups/all_right": 7, "groups/all_wrong": 2, "pools/all_right": 5}

    def panels(**metrics):
        return draw_panels({"one": [replace(run, metrics=[{"step": step, **metrics} for step in (1, 2)])]})

    (panel,) = panels(**drawn)
    assert panel["title"] == "Problems drawn" and all(name in panel["svg"] for name in drawn)
    assert [one["title"] for one in panels(loss=0.5)] == ["Loss"]


def test_where_nothing_was_sampled_the_evaluations_are_shown_alone(folder):
    run = read_run(folder)
    given = replace(run, metrics=[{"step": row["step"], "loss": 0.5} for row in run.metrics])
    drawn = {one["title"]: one["svg"] for one in draw_panels({"one": [given]})}
    assert {"Solved", "Loss"} <= drawn.keys() and "Reward" not in drawn and "last" not in drawn["Solved"]
    none = replace(given, evaluations=[])
    assert "Solved" not in {one["title"] for one in draw_panels({"one": [none]})}


def test_a_hostile_completion_stays_text(folder, html):
    seen = Page(html)
    assert [tag for tag, _ in seen.tags].count("script") == 2 and "img" not in dict(seen.tags)
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    rows = [row for one in seen.sets for row in one["rows"]]
    assert set(HOSTILE[:4]) <= {row["completion"] for row in rows}
    shown = [row["html"] for row in rows if "html" in row]
    assert len(shown) == 16 and not re.search("<(script|img|b)", "".join(shown))


def test_the_page_asks_no_network(html):
    addresses = [
        value for _, a in Page(html).tags for key, value in a.items() if key in ("src", "href", "srcset")
    ]
    assert all(address.startswith("#") for address in addresses)
    assert "@import" not in html and "url(http" not in html


@pytest.mark.usefixtures("no_figures")
def test_an_unfinished_run_with_a_torn_row_is_shown(tmp_path):
    folder = write_run(tmp_path / "run", finished=False)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "rew')
    said = Page(report(folder).html).said
    assert "4 of 4 steps, not finished" in said and "50.0% before" in said and "after training" not in said


def test_seeds_of_one_setting_are_one_line_and_a_band(tmp_path, monkeypatch):
    runs = [read_run(write_run(tmp_path / f"s{seed}", seed=seed, steps=4 + seed)) for seed in (0, 1)]
    groups = group_by_setting(runs)
    assert list(groups) == ["sudoku spg"] and len(groups["sudoku spg"]) == 2
    steps, values = aligned([column(run, "correct") for run in runs])
    assert steps.tolist() == [1, 2, 3, 4, 5]  # one has ended before
    both = [[0.25, 0.5, 0.75, 1, np.nan], [0.21, 0.41, 0.61, 0.81, 1.01]]
    assert values == pytest.approx(np.array(both), nan_ok=True)
    monkeypatch.setattr(curves, "PANELS", PANELS[:1])
    (solved,) = draw_panels(groups)
    assert "opacity: 0.18" in solved["svg"]


@pytest.mark.usefixtures("group_signal")
def test_a_run_of_sft_has_no_groups_and_stands_beside_one_that_has(tmp_path):
    taught, trained = (write_run(tmp_path / name) for name in ("taught", "trained"))
    rows = [{"step": step, "loss": 1 / step} for step in (1, 2)]
    (taught / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert set(column(read_run(taught), "mixed").values()) == {None}
    for runs in ((taught, trained), (trained, taught)):
        assert "all right" in report(*runs).html


def test_a_single_run_is_compared_with_no_other(tmp_path, monkeypatch):
    """So the report at the end of a training builds no algorithm again."""
    run = read_run(write_run(tmp_path / "run"))
    monkeypatch.delattr("spg_trainer.reporting.runs.identity")
    assert group_by_setting([run]) == {"sudoku spg": [run]}


@pytest.mark.usefixtures("no_figures")
def test_a_lost_task_file_is_said_and_completions_are_text(tmp_path):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**record, "env": "./gone.py:my/Gone-v0"}))
    seen = Page(report(folder).html)
    assert "gone.py" in seen.said
    assert not any("html" in row for one in seen.sets for row in one["rows"])


@pytest.mark.usefixtures("no_figures")
def test_a_rendering_that_raises_is_named_in_its_place(folder, monkeypatch):
    monkeypatch.setattr(envs.Sudoku, "render_text", lambda self, problem, completion: problem["<no>"])
    seen = Page(report(folder).html)
    assert "render_text raised TypeError" in seen.sets[0]["rows"][0]["html"]


def test_too_many_completions_are_cut_and_at_least_one_stays():
    rows = [{"index": i} for i in range(9)]
    assert fitting(rows, 35) == rows[:3] and fitting(rows, 1) == rows[:1] and fitting(rows, 999) == rows


def test_the_name_in_the_package_is_the_function():
    assert spg_trainer.report is report
    with pytest.raises(ConfigError, match="Give a run folder"):
        spg_trainer.report()


@pytest.mark.usefixtures("no_figures")
def test_a_shell_shows_what_a_report_is_about(folder):
    assert re.fullmatch(rf"<report on {folder}, \d\.\d MB: \.save\(FILE\.html\) .*>", repr(report(folder)))


def test_a_notebook_shows_the_page_in_a_frame(html):
    shown = page.Report(html)._repr_html_()
    assert unescape(re.search('srcdoc="([^"]*)"', shown)[1]) == html


@pytest.mark.usefixtures("no_figures")
def test_the_command_writes_into_the_run_or_where_told(folder, tmp_path, capsys):
    assert cli.main(["report", str(folder)]) == 0
    assert cli.main(["report", str(folder), "-o", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "report.html"), str(tmp_path / "x.html")]
    assert (folder / "report.html").read_text() == (tmp_path / "x.html").read_text()
    assert cli.main(["report", str(folder), "-o", str(folder / "metrics.jsonl")]) == 2
    assert "metrics.jsonl: a report is a page. Give a file that ends in .html" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no run: config.yaml is missing" in capsys.readouterr().err
    assert cli.main(["report", str(folder.parent)]) == 2
    assert f"Give a run folder, e.g. {folder}." in capsys.readouterr().err, "a run that is in it"


def test_training_ends_with_a_report_of_tokens(tmp_path):
    config = small_config(tmp_path / "run")
    train(replace(config, output=replace(config.output, report=True)), quiet=True)
    seen = Page((tmp_path / "run" / "report.html").read_text())
    assert [one["name"] for one in seen.sets][:2] == ["before", "after"]
    assert all(len(row["tokens"]) == 10 for one in seen.sets for row in one["rows"])
    assert "prompts_per_step: 4" in seen.said


def test_a_report_that_cannot_be_written_fails_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "report", lambda run: 1 / 0)
    config = small_config(tmp_path / "run", max_steps=1)
    assert train(replace(config, output=replace(config.output, report=True)))["steps"] == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert "report.html was not written (ZeroDivisionError: division by zero)" in said


@pytest.mark.usefixtures("group_signal")
def test_the_colours_of_group_signal_say_good_and_bad(folder):
    (panel,) = draw_panels({"run": [read_run(folder)]})
    fills = re.findall(r"fill: (#\w{6}); fill-opacity: 0.6", panel["svg"])
    blue, green, orange, red = "#1f77b4", "#2ca02c", "#ff7f0e", "#d62728"
    assert fills[:4] == [blue, green, orange, red] == [to_hex(colour) for colour in COLOURS.values()]
    assert list(COLOURS) == list(PARTS) == ["mixed", "all right", "all wrong", "all wrong, the same text"]


def test_long_names_of_settings_are_wrapped_to_their_panel(tmp_path, at_length, monkeypatch):
    monkeypatch.setattr(curves, "PANELS", PANELS[:: 1 if at_length else 4])
    run = read_run(write_run(tmp_path / "run"))
    name = "sudoku spg prompts_per_step=4 eval_problems=24 validation_problems=16"
    for panel in draw_panels({name: [run], "wd1": [run]}):
        texts = [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)<", panel["svg"])]
        assert max(map(len, texts)) <= 30, panel["title"]
        assert name in " ".join(texts)


@pytest.mark.slow
def test_a_run_of_120_steps_takes_five_seconds_and_five_megabytes_at_most(tmp_path):
    folder = write_run(tmp_path / "run", steps=120, problems=256)
    for step in range(10, 130, 10):
        rows = completions(256, "train", step, solved=lambda i: i % 3)
        (folder / f"samples/step-{step:06d}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    began = time.process_time()
    size = len(report(folder).html.encode())
    assert time.process_time() - began < 5 and 200_000 < size < 5_000_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_it_at_three_widths_and_in_both_themes(html, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(html)
    grounds = set()
    with chromium(tmp_path / "profile") as browser:
        for width, height in WIDTHS:
            for scheme in SCHEMES:
                browser.open(file, width, height, scheme)
                browser.run(SCRIPT)
                assert browser.run("document.documentElement.scrollWidth") <= width
                assert browser.run(SMALLEST) >= 11
                assert browser.run(OVERPRINTED) == ""
                assert browser.screenshot(tmp_path / "seen.png").stat().st_size > 10_000
                grounds.add((scheme, browser.run("getComputedStyle(document.body).backgroundColor")))
        assert browser.run("count('#stage .masked')") == 0
        tokens = browser.run("count('#stage .token')")
        browser.run("set('slider', 0)")
        assert tokens > 6 and browser.run("count('#stage .masked')") == tokens
        browser.run("set('slider', 3)")
        assert browser.run("count('#stage .masked')") == tokens - 6  # three of either side
        assert browser.run("count('#stage .now')") == 2
        assert browser.run("at('outcomes').textContent") == "fixed 3broken 0still wrong 1still right 4"
        assert browser.run("count('#stage .env.unfinished')") == 2
        first_fixed = envs.make("sudoku", split="test").problem(1)
        cells = "document.querySelector('.side:nth-child(2) .env').textContent.replace(/[^1-4]/g, '')"
        assert browser.run(f"set('slider', 20); {cells}") == first_fixed.metadata["solution"]
        assert browser.run("count('#stage .env.unfinished')") == 0
        browser.run("at('play').focus()")
        for kind in ("keyDown", "keyUp"):
            browser.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")
        assert browser.run("at('play').ariaLabel") == "pause" and browser.run("+at('slider').value") < 20
        browser.run(
            "set('slider', 20); document.querySelector('#list .item').open = true; set('verdict', '0')"
        )
        assert browser.run("count('#list .item')") == 1
        assert browser.run("document.title") == "sudoku spg"
        assert browser.complaints() == []
        assert set(browser.requests()) == {file.resolve().as_uri()}
    assert len(grounds) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.usefixtures("no_figures")
def test_a_browser_shows_what_a_step_accepted_and_drew_anew(tmp_path):
    folder = write_run(tmp_path / "run")
    file = folder / "eval" / "after.jsonl"
    # A canvas of three steps, and one that was not begun.
    path = [[[0, "x"], [2, "a"]], [[0, None], [1, "b"], [2, "b"]], [[0, None], [2, "c"]], []]
    shown = {"tokens": ["a", "b", "c", ""], "reveal_step": [2, 1, 1, -1], "confidence": [0.9, 0.8, 0.7, None]}
    changed = [{**json.loads(line), **shown, "path": path} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in changed))
    page = tmp_path / "report.html"
    page.write_text(report(folder).html)
    chips = "[...document.querySelectorAll('.side:nth-child(2) .token')]"
    state = (
        f"{chips}.map((e) => e.textContent + e.className.replace('token', '').replace(' special', '')).join()"
    )
    with chromium(tmp_path / "profile") as browser:
        browser.open(page, 1200, 900, "light")
        browser.run(SCRIPT)
        for step, expected in enumerate(
            [" masked, masked, masked", "x now, redrawn, redrawn", "x now,b now, redrawn", "a,b,c"]
        ):
            assert browser.run(f"set('slider', {step}); {state}") == expected
        said = "document.querySelector('.side:nth-child(2) > small').textContent"
        assert browser.run(f"set('slider', 2); {said}") == "2 accepted, 1 drawn anew"
        assert browser.complaints() == []


@pytest.mark.parametrize("given", [None, 3, ["a", "b"], b"runs"])
def test_what_is_no_place_of_a_run_is_refused_in_a_sentence(given) -> None:
    for name, call in (
        ("read_run", lambda: read_run(given)),
        ("report", lambda: report(given)),
        ("diff", lambda: diff(given, "runs/other")),
    ):
        with pytest.raises(
            ConfigError,
            match=f"{name} takes the path of a run, e.g. 'runs/NAME', not {re.escape(repr(given))}",
        ):
            call()


def test_what_is_no_comparison_is_refused_in_a_sentence() -> None:
    for given in (None, ["runs/a", "runs/b"], {"env": ("sudoku",)}):
        with pytest.raises(
            ConfigError, match=r"compare takes settings, CompareCommand\(env=..., algorithms=...\), not"
        ):
            compare(given)
    for name, value in (("env", "sudoku"), ("algorithms", "spg"), ("model", "tiny"), ("seeds", 2)):
        with pytest.raises(ConfigError, match=rf"{name}.{value!r}: expected a tuple, each item "):
            compare(CompareCommand(**{name: value}))
    for name in ("env", "algorithms", "model"):
        with pytest.raises(ConfigError, match=rf"{name}.*<class 'dict'>\): expected a tuple, each item text"):
            compare(CompareCommand(**{name: ("spg", dict)}))
    for given in (5, "--max-steps 20"):
        with pytest.raises(ConfigError, match=f"shared={given!r}: expected a tuple, each item text"):
            compare(CompareCommand(), given)
