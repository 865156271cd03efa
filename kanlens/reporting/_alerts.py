"""Alerts: caveats at the top of a report, and limits for scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from kanlens.attribution._method_runs import RANDOM
from kanlens.errors import InvalidValueError
from kanlens.plotting._formats import counted, fixed, listed, number, percent
from kanlens.reporting._planning import FROM_DATA
from kanlens.training._baselines import poor_fit

FEW_ROWS = 50  # rows
DISAGREE = 0.5  # Spearman's correlation below which methods disagree
RANKED = 5  # features below which a correlation of ranks is chance
GAP = 0.01  # relative completeness gap above which a method is reported
FORMULA_RMSE_LIMIT = 0.1  # relative RMSE of a formula
CONSTANT_EDGE_RATIO = 0.01  # relative standard deviation below which an edge hardly varies
POOR = {"R2": 0.3, "D2": 0.1, "concordance": 0.55}  # scores below which a fit is poor
CONTINUED = "There the functions are extrapolated."
HELD = "There it is clipped to the range."
LIMIT = re.compile(r"\s*(\w+)\s*([<>])\s*([-+.\w]+)\s*")

Content = dict[str, Any]
Alerts = Iterator[dict[str, str]]


def find_alerts(content: Content) -> list[dict[str, str]]:
    """Return the caveats of a report: level, code and text, warnings first."""
    checks = (_target, _outside, _performance, _formula, _methods, _disagreement, _network, _data)
    alerts = [alert for check in checks for alert in check(content)]
    return [alert for level in ("warning", "note") for alert in alerts if alert["level"] == level]


def _alert(code: str, text: str, *, warning: bool = True) -> dict[str, str]:
    return {"level": "warning" if warning else "note", "code": code, "text": text}


def _target(content: Content) -> Alerts:
    if not any(feature["importance"] for feature in content["importance"]["features"]):
        text = "No feature changes the output on these rows: there is nothing to explain."
        yield _alert("constant_output", text)
    metric = "accuracy" if content["model"]["task"] == "classification" else "R²"
    for column, score in content["data"]["given_away"].items():
        text = (
            f"{column} alone predicts {content['meta']['target']} ({metric} {fixed(score)}). If it "
            "is not available at prediction time, this is target leakage: train without it."
        )
        yield _alert("target_given_away", text)


def _outside(content: Content) -> Alerts:
    """Report inputs and hidden units outside the grids."""
    outside, features = content["model"]["outside"], content["data"]["features"]
    inputs = "an input", features, outside["rows_with_input"], outside["held"]
    hidden = "a hidden unit", outside["units"], outside["rows_with_hidden"], False
    levels = ("inputs_outside_grid", inputs), ("hidden_outside_grid", hidden)
    for code, (what, nodes, rows, held) in levels:
        beyond = [node for node in nodes if node["outside"] > 0]
        ordered = sorted(beyond, key=lambda node: -node["outside"])
        names = [f"{node['name']} ({percent(node['outside'])})" for node in ordered]
        if names:
            place, rest = ("training range", HELD) if held else ("grid", CONTINUED)
            text = f"{percent(rows)} of the rows have {what} outside its {place}: "
            yield _alert(code, f"{text}{listed(names)}. {rest}", warning=rows > 0.01)


def _performance(content: Content) -> Alerts:
    performance = content["performance"]
    if performance is None:
        text = "There are no targets, so the predictions for these rows cannot be scored."
        yield _alert("no_targets", text, warning=False)
        return
    if performance["task"] == "regression":
        value, metric = performance["score"], performance["metric"]
        poor = value is not None and value < POOR[metric]
        words = f"({metric.replace('2', '²')} {number(value)})"
        text = f"The model explains little of the target {words}."
    else:
        accuracy, majority = performance["accuracy"], performance["majority_share"]
        poor = accuracy <= majority
        text = (
            f"Always predicting the most frequent class is as good: accuracy {percent(accuracy)}, "
            f"share of that class {percent(majority)}."
        )
    if not poor and (unseen := content["baselines"]) and unseen["held_out"]:
        text = poor_fit(unseen["models"])
        poor = bool(text)
    if poor:
        yield _alert("poor_fit", f"{text} What follows describes the model, not the world.")


def _formula(content: Content) -> Alerts:
    formula = content["formula"]
    if formula is None:
        return
    receipt = formula["receipt"]
    relative, undefined = receipt["relative_rmse"], receipt["undefined_rows"]
    if undefined:
        text = f"The formula is not finite on {counted(undefined, 'row')}."
        yield _alert("formula_undefined", text)
    if relative is None or relative > FORMULA_RMSE_LIMIT:
        text = (
            f"The formula differs from the model: the RMSE is {percent(relative)} of the output's "
            f"standard deviation."
        )
        yield _alert("formula_far", text, warning=not formula["trustworthy"])
    if not receipt["defined_beyond"]:
        text = "The formula is not finite everywhere within 5% beyond the ranges of the data."
        yield _alert("formula_edges", text)
    if receipt["spline_edges"]:
        text = f"Parts of the formula are still splines: {listed(receipt['spline_edges'])}."
        yield _alert("formula_splines", text, warning=False)


def _methods(content: Content) -> Alerts:
    """Report methods whose values do not add up, by design or by error."""
    words = {
        False: "do not add up to the change of the output; numbers in parentheses are relative "
        "gaps. By design, these methods are not complete.",
        True: "should add up to the change of the output but do not; numbers in parentheses are "
        "relative gaps. Do not rely on them here.",
    }
    methods = [record for record in content["comparison"]["methods"] if record["method"] != RANDOM]
    for complete, code in ((False, "incomplete_methods"), (True, "completeness_gap")):
        names = [
            f"{record['method']} ({percent(gap_of(record))})"
            for record in methods
            if record["complete"] == complete
            and gap_of(record) > GAP
            and (complete or record["relative_gap"] is not None)  # None for slopes
        ]
        if names:
            yield _alert(code, f"Values of {listed(names)} {words[complete]}", warning=complete)


def gap_of(record: dict[str, Any]) -> float:
    """Return the relative completeness gap of a method."""
    gap = record["relative_gap"]
    return float("inf") if gap is None else float(gap)


def _disagreement(content: Content) -> Alerts:
    """Report pairs of methods with different rankings."""
    agreement = content["comparison"]["agreement"]
    if len(content["importance"]["features"]) < RANKED:
        return
    complete = {one["method"] for one in content["comparison"]["methods"] if one["complete"]}
    pairs = [
        (agreement[a][b], a, b)
        for a, b in combinations([name for name in agreement if name != RANDOM], 2)
        if agreement[a][b] is not None and agreement[a][b] < DISAGREE
    ]
    if not pairs:
        return
    serious = [pair for pair in pairs if pair[1] in complete and pair[2] in complete]
    names = [f"{a} and {b} ({fixed(value)})" for value, a, b in sorted(serious or pairs)]
    text = (
        f"Methods rank the features differently: {listed(names, most=3)}; numbers in "
        f"parentheses are Spearman's correlation. "
    )
    text += (
        "They should agree; look at their gaps and errors."
        if serious
        else "In each pair, one method is not complete and measures something else."
    )
    yield _alert("methods_disagree", text, warning=bool(serious))


def _network(content: Content) -> Alerts:
    model = content["model"]
    if model["provenance"].startswith("imitates "):
        text = f"This page is about a network that {model['provenance']}, not about the original."
        yield _alert("imitation", text, warning=False)
    removed = model["edges_total"] - model["edges_alive"]
    faint = [edge for edge in content["edges"] if edge["relative"] < CONSTANT_EDGE_RATIO]
    unused = len(content["data"]["features"]) - model["features_used"]
    if removed:
        whole = counted(model["edges_total"], "edge")
        text = f"{removed:,} of {whole} {'is' if removed == 1 else 'are'} removed."
        yield _alert("dead_edges", text, warning=False)
    if unused:
        text = f"{counted(unused, 'feature')} {'has' if unused == 1 else 'have'} no edge left."
        yield _alert("unused_features", text, warning=False)
    if faint:
        text = (
            f"{counted(len(faint), 'nonzero edge')} hardly "
            f"{'varies' if len(faint) == 1 else 'vary'} "
            f"(below {percent(CONSTANT_EDGE_RATIO, 0)} of the strongest of the layer); prune could "
            f"remove {'it' if len(faint) == 1 else 'them'}."
        )
        yield _alert("faint_edges", text, warning=False)


def _data(content: Content) -> Alerts:
    data = content["data"]
    constant = [feature["name"] for feature in data["features"] if feature["constant"]]
    if constant:
        text = (
            f"Constant in these rows: {listed(constant)}. Nothing can be said about "
            f"{'its' if len(constant) == 1 else 'their'} effect here."
        )
        yield _alert("constant_features", text)
    if data["rows"] < FEW_ROWS:
        text = f"There are only {counted(data['rows'], 'row')}; averages over them are uncertain."
        yield _alert("few_rows", text)
    if content["meta"]["background_origin"] == FROM_DATA:
        text = (
            "The model stores no background rows, so rows of this report are the background. "
            "Pass background to choose other rows."
        )
        yield _alert("background_from_data", text, warning=False)


# --- limits for scripts ----------------------------------------------------------------------


SCORES = ("r2", "d2", "concordance", "accuracy", "log_loss", "auc")
LIMITED = ("completeness", "offgrid", "warnings", "formula", *SCORES)


def read_limits(text: str) -> list[tuple[str, str, float]]:
    """Read limits such as ``completeness>1e-6,r2<0.5``."""
    limits = []
    for part in text.split(","):
        match = LIMIT.fullmatch(part)
        try:
            if match is None or match[1] not in LIMITED:
                raise ValueError
            limits.append((match[1], match[2], float(match[3])))
        except ValueError:
            expected = f"to list name>value or name<value for names in {', '.join(sorted(LIMITED))}"
            fields = "report", expected, repr(part), "For example completeness>1e-6,offgrid>0.05"
            raise InvalidValueError(*fields, argument="fail_on") from None
    return limits


def broken(content: Content, limits: list[tuple[str, str, float]]) -> list[str]:
    """Return the limits that a report breaks, or whose value it lacks, in words."""
    gaps = [gap_of(method) for method in content["comparison"]["methods"] if method["complete"]]
    formula, words = content["formula"], []
    own = content["performance"] or {}
    scores = {own.get("metric", "").lower(): own.get("score"), **own}
    values = {name: scores.get(name) for name in SCORES} | {
        "completeness": max(gaps, default=None),
        "offgrid": content["model"]["outside"]["all"],
        "warnings": sum(alert["level"] == "warning" for alert in content["alerts"]),
        "formula": formula and formula["receipt"]["relative_rmse"],
    }
    for name, sign, limit in limits:
        value = values[name]
        if value is None or (value > limit if sign == ">" else value < limit):
            text = "not known" if value is None else f"{number(value)} {sign} {limit:g}"
            words.append(f"{name} {text}")
    return words
