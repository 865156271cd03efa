"""The page in a browser: opened from a file, with no network, it computes what Python computes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.dates import AutoDateLocator

import kanlens
from kanlens.attribution import attribute
from kanlens.data._table_reader import read_table
from kanlens.data._tables import Table
from kanlens.exporters._dialects import JAVASCRIPT, formula
from kanlens.exporters._exported_model import predicted
from kanlens.functions._catalog import FUNCTIONS, find_function
from kanlens.model._network import KAN
from kanlens.plotting._formats import number, signed
from kanlens.reporting import Report
from kanlens.reporting._analysis import Request, analyze
from kanlens.reporting._drawing import draw as draw_picture
from kanlens.reporting._page_data import build_content
from kanlens.reporting._report import _script, render_page
from kanlens.reporting._report_data import read_subject
from kanlens.reporting._what_if_data import build_panel
from tests.made import calibrated, draw, made
from tests.reporting.conftest import HOSTILE, TEMPLATE, network, seeded
from tests.reporting.test_drawing import decoded
from tests.reporting.test_html import pictures

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or "/usr/bin/chromium"
WIDTHS = (360, 768, 1440)
PICKS = range(6)


class Browser:
    """Pages that are opened one after the other, without a network; keeps what goes wrong."""

    def __init__(self, page: Any, content: dict[str, Any], folder: Path) -> None:
        self.page, self.content, self.folder, self.wrong = page, content, folder, list[str]()
        self.page.context.route("**/*", self._route)
        self.page.set_default_timeout(5000)
        self.page.on("console", lambda said: self.wrong.append(said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda said: (self.wrong.append(said.message), said.dismiss()))

    def show(self, panel: dict[str, Any]) -> Any:
        """Open a page with a panel; the rest of it is about some other model."""
        path = self.folder / "page.html"
        path.write_text(render_page(self.content, pictures(), panel), encoding="utf-8")
        return self.open(path)

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        return self.page

    def _route(self, route: Any) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            self.wrong.append(route.request.url)
            route.abort()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    wanted = os.environ.get("KANLENS_BROWSER", "")
    if wanted == "none" or not Path(CHROMIUM).exists():
        assert wanted != "needed", "chromium is needed, and not installed"
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def content_about(model: KAN, rows: torch.Tensor) -> dict[str, Any]:
    options: Any = {"methods": ["secant"], "max_rows": 20, "generator": seeded(), "progress": False}
    analysis = analyze(read_subject(model, (rows, model(rows)), 0), Request(**options))
    return build_content(analysis, title="T", generator="seed 0")


@pytest.fixture(scope="module")
def shared(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    page = chromium.new_context(reduced_motion="reduce").new_page()
    content = content_about(network([14, 1]), draw(30, 14).detach())
    return Browser(page, content, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def browser(shared: Browser) -> Iterator[Browser]:
    shared.page.emulate_media(media="screen")
    shared.wrong.clear()
    yield shared
    assert shared.wrong == []


class Asked:
    """A page about a model, and what the model itself says of the row that its controls show."""

    def __init__(self, browser: Browser, model: KAN, data: Any = None, **changes: Any) -> None:
        rows = draw(30, model.widths[0]) if data is None else data
        subject = read_subject(model, rows, 0)
        self.model, self.panel = model, build_panel(subject, PICKS) | changes
        self.page = browser.show(self.panel)
        self.x = np.array(self.panel["reference"])

    def numbers(self, where: str) -> list[float]:
        text = self.page.locator(where).evaluate_all("found => found.map(one => one.dataset.value)")
        return [float(value) for one in text for value in one.split()]

    def words(self, where: str) -> list[str]:
        found: list[str] = self.page.locator(where).all_text_contents()
        return found

    def shares(self) -> dict[str, float]:
        names = self.words("#fall tr:not(.end) th span:first-child")
        return dict(zip(names, self.numbers("#fall tr:not(.end) td.n"), strict=True))

    def agrees(self) -> None:
        shown, y = self.numbers("#answer"), predicted(self.model, self.x[None])[0]
        assert np.abs(np.array(shown) - y).max() <= 1e-12 * max(1.0, np.abs(y).max())

    def took(self, k: int, values: list[float]) -> None:
        """Take over what a control was set to, and compare."""
        self.x[self.panel["controls"][k]["columns"]] = values
        self.agrees()

    def press(self, k: int, key: str, value: float) -> None:
        """Press a key on a slider, which comes to stand at a value."""
        slider = f"document.querySelector('[data-control=\"{k}\"] [type=range]')"
        self.page.evaluate(f"{slider}.focus()")
        self.page.keyboard.press(key)
        self.took(k, [value])

    def enter(self, k: int, value: float) -> bool:
        """Set a number, at once and not as keys would; return whether it is said to be outside."""
        field = f"document.getElementById('set-{k}')"
        event = f"{field}.value = {value!r}, {field}.dispatchEvent(new Event('input'))"
        beyond = f"!document.querySelectorAll('.control')[{k}].querySelector('.beyond').hidden"
        outside: bool = self.page.evaluate(f"{event}, {beyond}")
        self.took(k, [value])
        return outside


def classified() -> tuple[KAN, Table]:
    """Return a network of three classes, a one-hot column, a two-valued and a whole one."""
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": draws.normal(size=40),
            "kind": ["red", "green", "blue", "green"] * 10,
            "new": ["no", "yes", "no", "no"] * 10,
            "rooms": draws.integers(1, 6, 40),
            "class": ["low", "middle", "high", "low", "low"] * 8,
        }
    )
    table = read_table(frame, target="class")
    model = made([6, 4, 3], seed=2)
    model.schema = table.schema
    return model, table


MODELS: dict[str, Callable[[], KAN]] = {
    "products": lambda: made([3, (2, [2, 3]), 2], scaled_nodes=True),
    "normalized": lambda: made([3, 4, 1], normalized=[4, 0]),
    "functions": lambda: made([3, (1, 1), 1], functions=True),
    "series": lambda: made([2, 3, 1], series=["gaussian", "meyer", "T3(tanh)"]),
}


@pytest.mark.slow  # draws every picture of a report
@pytest.mark.parametrize("name", MODELS)
def test_every_slider_and_number_moves_the_model(browser: Browser, name: str) -> None:
    asked = Asked(browser, MODELS[name]())
    asked.agrees()
    assert max(asked.numbers("#badge")) <= 1e-12
    for k, one in enumerate(asked.panel["controls"]):
        asked.press(k, "End", one["high"])
        asked.press(k, "Home", one["low"])
        assert asked.enter(k, -1000.0)
        assert not asked.enter(k, 0.3071)
    assert list(asked.shares()) != []
    effects = list(map(signed, asked.numbers("#fall tr:not(.end) td.n")))
    before, now = (number(value, 4) for value in asked.numbers("#fall tr.end td.n"))
    assert asked.words("#fall td.n") == [before, *effects, now]
    asked.page.evaluate("document.getElementById('reset').click()")
    asked.x[:] = asked.panel["reference"]
    asked.agrees()
    assert asked.shares() == {}


@pytest.mark.slow
def test_choices_classes_and_their_probabilities(browser: Browser) -> None:
    model, table = classified()
    asked = Asked(browser, model, table)
    controls = asked.panel["controls"]
    assert [one["name"] for one in controls] == ["size", "kind", "new", "rooms"]
    for k, label in ((1, "blue"), (1, "red"), (2, "yes"), (1, "green")):
        asked.page.select_option(f"#set-{k}", label=label)
        asked.took(k, controls[k]["codes"][controls[k]["labels"].index(label)])
    asked.press(3, "End", controls[3]["high"])
    asked.press(3, "ArrowLeft", controls[3]["high"] - 1)  # in whole steps
    logits = torch.from_numpy(predicted(model, asked.x[None])[0])
    assert np.allclose(asked.numbers("#outputs td:nth-child(2)"), logits.softmax(0), rtol=1e-12)
    assert asked.words("#outputs th") == list(model.class_labels)
    assert asked.words("#outputs .chosen th") == [model.class_labels[int(logits.argmax())]]
    asked.page.select_option("#explained", "2")
    assert asked.numbers("#fall tr.end td.n")[1] == pytest.approx(float(logits[2]), rel=1e-12)
    assert asked.words("#answer .label") == [f"Probability of {model.class_labels[2]}"]
    assert set(asked.shares()) == {"new", "rooms"}  # green is the most frequent


@pytest.mark.slow  # writes reports
def test_an_empty_number_is_a_missing_cell(browser: Browser) -> None:
    size = [0.5, None, 2.5, 4.25, 10.0, 3.125]
    table = read_table(pd.DataFrame({"size": size, "y": range(6)}), target="y")
    model = made([2, 3, 1], seed=2)
    model.schema = table.schema
    asked = Asked(browser, model, table)
    asked.page.fill("#set-0", "")
    asked.took(0, [3.125, 1.0])
    assert asked.words("#fall .detail")[0].endswith("missing")
    asked.page.fill("#set-0", "7.5")
    asked.took(0, [7.5, 0.0])


@pytest.mark.slow  # takes a while
def test_two_classes_have_one_logit(browser: Browser) -> None:
    x = draw(30, 2)
    table = read_table(
        pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": np.where(x[:, 0] > 0, "up", "down")}),
        target="c",
    )
    model = network([2, 1])
    model.schema = table.schema
    asked = Asked(browser, model, table)
    asked.press(0, "End", asked.panel["controls"][0]["high"])
    logit = torch.from_numpy(predicted(model, asked.x[None])[0])
    true = [float(torch.sigmoid(-logit)), float(torch.sigmoid(logit))]
    assert asked.numbers("#outputs td:nth-child(2)") == pytest.approx(true, rel=1e-12)
    assert asked.words("#answer .label") == ["Probability of up"]
    assert asked.words("#answer .value") == [f"{100 * true[1]:.1f}%"]
    assert "90%" not in asked.words("#answer .more")[0]
    likely = ["down", "up"][int(true[1] > 0.5)]
    for least, names in ((min(true), "down, up"), (0.5, likely), (1.0, "none")):
        asked = Asked(browser, model, table, widths=[least])
        asked.press(0, "End", asked.panel["controls"][0]["high"])
        assert asked.words("#answer .more")[0].endswith(f"90% set: {names}")


def test_an_output_has_its_interval(browser: Browser) -> None:
    asked = Asked(browser, network([2, 2]), widths=[0.5, 2.0])
    asked.page.select_option("#explained", "1")
    value = asked.numbers("#answer")[1]
    low, high = asked.words("#answer .more")[0].rpartition("interval: ")[2].split(" to ")
    ends = [float(end.replace("\N{MINUS SIGN}", "-")) for end in (low, high)]
    assert ends == pytest.approx([value - 2, value + 2], abs=1e-3)


@pytest.mark.slow  # takes a while
def test_values_outside_the_data_are_told_as_by_predict(browser: Browser) -> None:
    x = torch.rand(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 1] = x[:, 0] + 0.05 * x[:, 2]
    model = kanlens.fit_default((x, x.sum(1)), hidden=(), progress=False).model
    asked, said = Asked(browser, model, x), set()
    for rows in ([0.3, 0.3, 0.5], [0.3, 0.9, 0.5], [5.0, 0.3, 0.5], [0.9, 0.1, 9.0]):
        for k, value in enumerate(rows):
            asked.enter(k, value)
        (word,) = kanlens.predict(model, asked.x[None], support=True)["outside the data"]
        assert asked.words("#answer .beyond") == [f"Outside the data: {word}" if word else ""]
        said.add(word.partition(" (")[0])
    assert said == {"", "1 pair", "1 of 3 features"}


@pytest.mark.parametrize("loss", ["poisson", "quantile"])
def test_predictions_are_on_the_scale_of_the_loss_too(browser: Browser, loss: str) -> None:
    model, x = calibrated(loss)
    asked = Asked(browser, model, x)
    for value in (0.1, 0.9):
        asked.enter(0, value)
        frame = kanlens.predict(model, asked.x[None], interval=0.9)
        rate, low, high = frame.iloc[0, [0, 1, 2] if loss == "poisson" else [0, -2, -1]]
        text = asked.words("#answer .more")[0].replace("\N{MINUS SIGN}", "-").replace(",", "")
        ends = text.rpartition("interval: ")[2].split(" to ")
        assert [float(end) for end in ends] == pytest.approx([low, high], rel=1e-3, abs=1e-3)
        if loss == "poisson":
            assert float(text.partition("rate ")[2].split()[0]) == pytest.approx(rate, rel=1e-3)


def test_shares_are_exact_shapley_values(browser: Browser) -> None:
    model = MODELS["products"]()
    asked = Asked(browser, model)
    for k, value in enumerate((0.7, -1.1, 0.4)):
        asked.page.fill(f"#set-{k}", str(value))
        asked.took(k, [value])
    x, reference = (
        torch.from_numpy(np.array([row])) for row in (asked.x, asked.panel["reference"])
    )
    true = attribute(model, x, method="shapley", background=reference, target=0).values[0]
    found = asked.shares()
    assert [found[name] for name in model.feature_names] == pytest.approx(true.tolist(), rel=1e-9)
    sizes = [abs(value) for value in found.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert "exact Shapley values" in asked.words("#what-if caption")[0]


def test_shares_of_many_features_are_those_of_both_orders(browser: Browser) -> None:
    model = made([14, 2, 1])
    asked = Asked(browser, model)
    asked.page.evaluate("document.querySelector('[data-row]').click()")
    old, new = np.array(asked.panel["reference"]), np.array(asked.panel["rows"][0])
    there = np.tri(15, 14, -1)  # of the columns, more and more from the first on
    paths = [predicted(model, np.where(mixed, new, old))[:, 0] for mixed in (there, there[:, ::-1])]
    fore, back = map(np.diff, paths)
    shares = (fore + back[::-1]) / 2
    order = np.argsort(-np.abs(shares))
    true = {model.feature_names[k]: pytest.approx(shares[k], abs=1e-12) for k in order[:12]}
    found = asked.shares()
    assert found == true | {"2 others": pytest.approx(shares[order[12:]].sum(), abs=1e-12)}
    assert list(found) == [*true, "2 others"]
    assert "in reverse" in asked.words("#what-if caption")[0]


def test_where_a_model_has_no_value_the_page_says_so(browser: Browser) -> None:
    model = MODELS["functions"]()
    model.layers[0].assign(0, 0, "log", (1.0, 0.0, 1.0, 0.0))
    asked = Asked(browser, model, draw(30, 3).abs() * model.input_scale + model.input_shift)
    asked.agrees()
    asked.page.fill("#set-0", "-50")
    assert asked.words("#answer .value") == ["not finite"]
    assert asked.words("#what-if caption") == [
        "The model is not finite on some combinations of the two rows."
    ]
    assert asked.shares() == {}


def test_a_row_fills_the_controls(browser: Browser) -> None:
    asked = Asked(browser, *classified())
    for place in range(len(PICKS)):
        asked.page.evaluate(f"document.querySelectorAll('[data-row]')[{place}].click()")
        asked.x = np.array(asked.panel["rows"][place])
        asked.agrees()
        assert asked.words("#from") == [asked.words("article h3")[place]]
    assert asked.page.evaluate("document.activeElement.textContent") == "What if"
    kind = asked.panel["controls"][1]
    (shown,) = asked.words("#set-1 option:checked")
    assert kind["codes"][kind["labels"].index(shown)] == asked.x[kind["columns"]].tolist()


def test_a_mixture_of_categories_is_shown_as_such(browser: Browser) -> None:
    asked = Asked(browser, *classified(), rows=[[0.1, 0.5, 0.25, 0.25, 1.0, 2.0]])
    asked.page.evaluate("document.querySelector('[data-row]').click()")
    asked.x = np.array(asked.panel["rows"][0])
    asked.agrees()
    assert asked.words("#set-1 option:checked") == ["as in the row"]


def test_the_badge_says_when_a_page_is_off(browser: Browser) -> None:
    asked = Asked(browser, made([2, 1]), check={"x": [[0.0, 0.0]], "y": [[1e-3]]})
    assert "Do not trust these numbers" in asked.words("#badge.bad")[0]


def test_functions_are_those_of_python(browser: Browser) -> None:
    import sympy

    u = np.concatenate([np.linspace(-3, 3, 61), [-40.0, -7.5, -1e-9, 1e-9, 6.1, 40.0]])
    known = [*FUNCTIONS.values(), find_function("T9(tanh)")]
    texts = {g.name: JAVASCRIPT.text(formula(g, sympy.Symbol("u"))) for g in known}
    path = browser.folder / "empty.html"
    path.write_text("<!DOCTYPE html><p>")
    page = browser.open(path)
    page.add_script_tag(content=_script(texts))
    found = page.evaluate("(u) => Object.values(FUNCTIONS).map(g => u.map(g))", u.tolist())
    for g, values in zip(known, found, strict=True):
        true = g.value(torch.from_numpy(u)).numpy()
        fine = np.isfinite(true)
        got = np.array(values, dtype=float)
        assert not np.isfinite(got[~fine]).any(), g.name
        off = np.abs(got[fine] - true[fine]) / (1 + np.abs(true[fine]))
        assert off.max() <= 1e-13, g.name


def column(page: Any, place: int, within: str = "") -> list[str]:
    found: list[str] = page.locator(
        f"{within} tbody tr:visible > :nth-child({place})"
    ).all_text_contents()
    return found


def test_headers_sort_and_long_tables_are_filtered(browser: Browser) -> None:
    page, within = browser.show({"left_out": "said", "functions": {}}), "#importance"
    page.evaluate("document.querySelector('#importance details').open = true")
    names = column(page, 1, within)
    head = page.locator(f"{within} th").nth(1)
    states = []
    for _ in range(3):
        head.locator("button").press("Enter")
        states.append((head.get_attribute("aria-sort"), column(page, 1, within)))
    assert [name for name, _ in states] == ["ascending", "descending", "none"]
    assert [order for _, order in states] == [names[::-1], names, names]  # the largest were first
    page.locator(f"{within} th button").first.click()
    natural = [f"x{k}" for k in range(1, 15)]  # x2 before x10
    assert column(page, 1, within) == natural
    page.locator(f"{within} .filters input").fill("X1")
    kept = [name for name in natural if "x1" in name]
    assert column(page, 1, within) == kept
    assert page.locator(f"{within} .filters [role=status]").text_content() == f"{len(kept)} of 14"
    assert page.locator("#performance .filters").count() == 0


def test_numbers_are_sorted_as_they_are_meant(browser: Browser) -> None:
    values = [-7, -3.2e-4, 0, 2.5, 1234.5, 3.1e7]
    order = [number(value) for value in values]
    order[3:3] = ["<10⁻¹²", signed(0.5), "1.0%"]
    shuffled = [number(None), *order[::2], *order[1::2]]
    rows = "".join(f"<tr><td>{escape(cell)}</td></tr>" for cell in shuffled)
    head = '<div class="table"><table><thead><tr><th class="n">N</th></tr></thead><tbody>'
    path = browser.folder / "table.html"
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8">{head}{rows}</tbody></table></div>')
    page = browser.open(path)
    page.add_script_tag(content=_script({}))
    for expected in ([*order, number(None)], [*order[::-1], number(None)], shuffled):
        page.locator("th button").click()
        assert column(page, 1) == expected


@pytest.mark.slow
def test_without_scripts_and_on_paper_there_are_no_controls(
    browser: Browser, chromium: Any
) -> None:
    seen = "button:visible, input:visible, select:visible"
    page = Asked(browser, made([2, 1])).page
    assert not page.locator("#what-if .dead").is_visible()
    assert page.locator(seen).count() > 5
    page.emulate_media(media="print")
    assert page.locator("#what-if:visible, .filters:visible, .live:visible").count() == 0
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((browser.folder / "page.html").as_uri())
    assert page.locator("#what-if .dead").is_visible()
    assert page.locator("#importance h2").is_visible()
    assert page.locator(seen).count() == 0
    context.close()


@pytest.mark.slow  # takes a while
def test_curves_of_dates_tell_dates(browser: Browser) -> None:
    def curve(*, ax: Any) -> None:
        days = np.arange(17897, 18628)  # the years 2019 and 2020
        ax.plot(days, np.sin(days / 90), label="_curve")
        ax.xaxis.set_major_locator(AutoDateLocator())
        ax.set_xlabel("sold")

    path = browser.folder / "dates.html"
    shown = pictures() | {"effects": [draw_picture(curve, (3, 2))]}
    panel = {"left_out": "it was not requested", "functions": {}}
    path.write_text(render_page(browser.content, shown, panel), encoding="utf-8")
    page = browser.open(path)
    page.locator("#effects .picture").focus()
    page.keyboard.press("ArrowRight")
    told = page.locator("#effects .told").text_content()
    value = np.sin((17897 + 365) / 90)
    assert told == f"sold 2020-01-01: {value:.3f}"


@pytest.mark.slow  # draws every picture of a report
def test_curves_tell_the_nearest_point(browser: Browser, hostile: Report) -> None:
    page = browser.open(hostile.path)
    page.set_viewport_size({"width": 1440, "height": 900})
    figure = page.locator("#edge-0-0-0, #edge-0-1-0").first
    part, told = figure.locator(".curve"), figure.locator(".told")
    x, y = (decoded(part.get_attribute(key)) for key in ("data-x", "data-y"))
    lines = [
        f"{part.get_attribute('data-name')} {a}: {b}".replace("-", "\N{MINUS SIGN}")
        for a, b in zip(x, y, strict=True)
    ]
    middle = len(lines) // 2
    assert told.text_content() == ""
    figure.locator(".picture").focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(lines.index(told.text_content()))
    assert seen == [middle, middle + 2, middle]
    page.keyboard.press("Tab")
    assert told.text_content() == ""
    box = part.locator("path").bounding_box()
    for share in (0.0, 0.25, 1.0):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 5)
        assert abs(lines.index(told.text_content()) - share * (len(lines) - 1)) <= 1
    page.mouse.move(5, 5)
    assert told.text_content() == ""
    assert page.locator(".told").count() > 5


@pytest.mark.slow  # draws every picture of a report
def test_the_network_leads_to_its_numbers_and_shows_paths(
    browser: Browser, chromium: Any, hostile: Report
) -> None:
    page = browser.open(hostile.path)
    page.set_viewport_size({"width": 1440, "height": 900})
    svg = page.locator("#network svg")
    parts = "found => [...new Set(found.map(one => one.dataset.e))].sort()"
    corner = {"x": 4, "y": 4}  # the curve of an edge may lie over the middle of its box
    page.locator("#network a[href='#edge-1-0-1']").hover(position=corner)
    assert svg.locator("[data-e].on").evaluate_all(parts) == sorted(
        ["1-1-0", "2-0", "1-1", *(f"0-{k}-1" for k in range(4)), *(f"0-{k}" for k in range(4))]
    )
    page.mouse.move(5, 5)
    assert "traced" not in (svg.get_attribute("class") or "")
    links = svg.locator("a")
    assert links.count() == 14  # ten edges and four inputs
    assert svg.locator("a[tabindex='0']").count() == 1
    links.first.focus()
    page.keyboard.press("ArrowRight")
    assert links.nth(1).evaluate("one => one === document.activeElement")
    assert "traced" in svg.get_attribute("class")
    width = svg.evaluate("one => one.clientWidth")
    page.locator("#network .picture").focus()
    for key, factor in (("+", 1.5), ("-", 1), ("+", 1.5), ("0", 1)):
        page.keyboard.press(key)
        assert svg.evaluate("one => one.clientWidth") == pytest.approx(factor * width, abs=1)
    page.locator("#network button", has_text="Larger").click()
    assert page.locator("#network .filters [role=status]").text_content() == "150.0%"
    context = chromium.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(hostile.path.as_uri())
    for link in ("#edge-1-0-1", "#feature-0"):
        assert not still.locator(link).is_visible()
        still.locator(f"#network a[href='{link}']").click(position=corner)
        assert still.locator(link).is_visible(), "what is folded opens"
    context.close()


@pytest.mark.slow  # draws every picture of a report
def test_the_page_can_be_printed(browser: Browser, hostile: Report) -> None:
    page = browser.open(hostile.path)
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 703, "height": 1000})  # A4 between its margins
    beyond = "found => found.filter(one => one.getBoundingClientRect().right > 704).length"
    assert page.locator("table, svg, figure, pre, .equation").evaluate_all(beyond) == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 703
    assert page.locator("nav:visible, button:not(.sort):visible, input:visible").count() == 0
    kept = "found => found.every(one => getComputedStyle(one).breakInside === 'avoid')"
    assert page.locator("figure, tr, .alerts li").evaluate_all(kept)
    assert page.locator("#edges details tr:visible").count() > 10
    back = page.locator("figure").first.evaluate("one => getComputedStyle(one).backgroundColor")
    assert back == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.slow  # writes reports
def test_every_section_can_be_chosen_on_a_usual_screen(browser: Browser) -> None:
    page = browser.show({"left_out": "it was not requested", "functions": {}})
    page.set_viewport_size({"width": 1280, "height": 720})
    links = "[...document.querySelectorAll('nav a')]"
    for size in (13, 18):  # of the letters, which differ in width from one system to another
        page.evaluate(f"{links}.forEach(one => (one.style.fontSize = '{size}px'))")
        ends = page.evaluate(f"{links}.map(one => one.getBoundingClientRect().right)")
        assert max(ends) <= 1280
    page.evaluate("document.querySelector('nav ul').style.flexWrap = 'nowrap'")
    assert max(page.evaluate(f"{links}.map(one => one.getBoundingClientRect().right)")) > 1280


@pytest.mark.slow  # draws every picture of a report
def test_names_run_nothing_and_pages_fit(browser: Browser, hostile: Report) -> None:
    page = browser.open(hostile.path)
    labels = [one.split(" (")[0] for one in page.locator(".control label").all_text_contents()]
    assert labels == [HOSTILE, TEMPLATE, "a\"b'&$x$", "kind"]
    options = page.locator("#set-3 option").all_text_contents()
    assert options[:2] == ["<i>blue</i>", "<i>red</i>"]
    page.locator("[data-row]").nth(1).click()
    assert HOSTILE in page.locator("#fall").text_content()
    assert "<img src=x onerror=alert(2)>" in page.locator("#what-if").text_content()
    named = "one => one.labels.length || one.getAttribute('aria-labelledby')"
    assert page.evaluate(f"[...document.querySelectorAll('input, select')].every({named})")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.slow  # looks at every element of a report
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 360)])
def test_everybody_can_read_the_page(
    browser: Browser, hostile: Report, scheme: Any, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    page = browser.open(hostile.path)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    page.evaluate((Path(axe.__path__[0]) / "axe.min.js").read_text(encoding="utf-8"))
    look = "async where => (await axe.run(where)).violations.map(one => [one.id, one.impact])"
    assert page.evaluate(look, "html") == []
    page.evaluate("document.querySelector('header').append(document.createElement('button'))")
    assert page.evaluate(look, "header") == [["button-name", "critical"]]
