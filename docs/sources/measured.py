"""The tables and numbers of the benchmark pages, computed from figures/data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.statistics import interval
from sources.writing import percent, short, table

DATA = Path(__file__).parents[2] / "figures" / "data"


def measured() -> dict[str, str]:
    """Return every table and number by its name."""
    found: dict[str, str] = {}
    for area in AREAS:
        found |= area()
    return found


def read(name: str) -> pd.DataFrame:
    """Read one file of figures/data."""
    return pd.read_csv(DATA / f"{name}.csv")


def origin(frame: pd.DataFrame) -> str:
    """Say when, with what and on what a file was measured."""
    days = sorted(frame["date"].unique())
    versions = f"kanlens {frame['kanlens'].iloc[0]}, torch {frame['torch'].iloc[0].split('+')[0]}"
    return f"Measured {' and '.join(days)}, {versions}, {frame['cpu'].iloc[0].split(',')[0]}."


OUTCOMES = {
    "ways": "imports",
    "equal when told": "equal with options",
    "differs: option said": "differs, option reported",
    "differs: forward said": "differs, forward reported",
}


def libraries() -> dict[str, str]:
    """Table of what becomes of networks of other libraries."""
    frame, themselves = read("libraries"), read("libraries-themselves").rename(columns=OUTCOMES)
    words = ["loads", *frame.columns[2:]]
    rows = [
        [line.library, "0" if line.difference == 0 else f"{line.difference:.0e}", "yes", *line[2:]]
        for _, line in frame.iterrows()
    ]
    return {
        "libraries": table(["library", "difference", *words], rows),
        "libraries_count": str(len(frame)),
        "libraries_themselves": table([*themselves.columns], themselves.astype(str).to_numpy()),
    }


# --- speed --------------------------------------------------------------------------------------


def speed() -> dict[str, str]:
    """Tables of the time and memory of one layer."""
    times, memory = read("speed"), read("speed-memory")
    steps = times["pass"] == "forward+backward"
    narrow = times.device == "cpu as avx2"  # timed as on a processor without AVX-512
    both, forward = times[steps & ~narrow], times[~steps & ~narrow]
    own = times[steps & (times.peer == "kanlens")]
    ratios, many = own.vs_linear, own[own.batch >= 1024].vs_linear
    return {
        "speed_both": layers(both, "ms"),
        "speed_forward": layers(forward, "ms"),
        "speed_both_avx2": layers(times[steps & narrow], "ms"),
        "speed_forward_avx2": layers(times[~steps & narrow], "ms"),
        "speed_memory": layers(memory, "extra_mib"),
        "speed_low": short(float(ratios.min())),
        "speed_high": short(float(ratios.max())),
        "speed_many": short(float(many.max()), 3),
        "speed_origin": f"{origin(times)} Threads: {times.threads.iloc[0]}, float32.",
        "speed_wrong": "; ".join(wrong_values(both)),
    }


def layers(frame: pd.DataFrame, value: str) -> str:
    """Write one row per layer, one column per library; the least of the right splines is bold."""
    peers = [name for name in frame.peer.unique() if name != "inkan eager"]
    rows = []
    for cell, group in frame.groupby("cell", sort=False):
        found = group.set_index("peer")
        right = found[(found.status == "ok") & ~found.index.isin(["nn.Linear", "FastKAN"])]
        best = right[value].astype(float).idxmin()
        rows.append([spelled(cell), *(layer_cell(found, p, value, p == best) for p in peers)])
    return table(["rows, layer, intervals", *peers], rows)


def spelled(cell: str) -> str:
    """Spell the name of a layer out.

    Examples
    --------
    >>> spelled("4096x64->64 G5 order 2")
    '4096, 64 → 64, 5, order 2'
    """
    rows, _, rest = cell.partition("x")
    sizes, _, grid = rest.partition(" G")
    intervals, *more = grid.split(" ", 1)
    return ", ".join([rows, sizes.replace("->", " → "), intervals, *more])


def layer_cell(found: pd.DataFrame, peer: str, value: str, best: bool) -> str:
    """Write one measurement; a star where the library computes something else."""
    if peer not in found.index or found.loc[peer, "status"] == "not supported":
        return "-"
    text = short(float(found.loc[peer, value]), 3)
    if found.loc[peer, "status"] != "ok":
        return rf"{text}\*"
    return f"**{text}**" if best else text


def wrong_values(frame: pd.DataFrame) -> list[str]:
    """Say which libraries are off the definition of a B-spline where, and how far."""
    wrong = frame[frame.status == "values differ"]
    return [
        f"{row.peer}, {spelled(row.cell)}: {percent(row.value_error, 0)}"
        for row in wrong.itertuples()
    ]


# --- sparsity -----------------------------------------------------------------------------------


def penalties() -> dict[str, str]:
    """F1 of the edges kept, test error and edges, for every penalty."""
    frame = read("sparsity-penalties")
    rows = []
    for name, group in frame.groupby("penalty"):
        known = group[group.true_edges.notna()]
        mean, half = interval(known.groupby("seed").edge_f1.mean())
        error = math.exp(np.log(group.test).mean())
        rows.append((mean, [f"`{name}`", f"{mean:.2f} ± {half:.2f}", short(error, 3)]))
        rows[-1][1].append(short(group.edges.mean()))
    rows = [row for _, row in sorted(rows, reverse=True)]
    head = ["penalty", "F1 of true edges", "test error", "edges kept"]
    return {"penalties": table(head, rows), "penalties_origin": origin(frame), **true_edges()}


def true_edges() -> dict[str, str]:
    """Means over problems of the experiment that asks again which penalty finds true edges."""
    frame = read("sparsity-true-edges")
    means = frame.groupby("penalty")[["edge_f1", "edges"]].mean()
    means["test"] = np.exp(np.log(frame.test).groupby(frame.penalty).mean())
    rows = [
        [f"`{name}`", f"{row.edge_f1:.2f}", short(row.test, 3), short(row.edges)]
        for name, row in means.sort_values("edge_f1", ascending=False).iterrows()
    ]
    seeds = frame.seed.nunique()
    return {
        "true_edges": table(["penalty", "F1 of true edges", "test error", "edges kept"], rows),
        "true_edges_seeds": f"{seeds} seeds" if seeds > 1 else "one seed",
        "true_edges_origin": origin(frame),
    }


def budgets() -> dict[str, str]:
    """Edges left, and the test loss over that of the whole network, for every budget."""
    frame = read("sparsity-budgets")
    frame["ratio"] = frame.test / frame.test_before
    shares = sorted(frame.budget.unique())
    found = {"budgets_origin": origin(frame)}
    for problem, group in frame.groupby("problem"):
        means = group.groupby(["arm", "budget"])[["edges", "ratio"]].mean()
        rows = [
            [arm, *(f"{means.edges[arm, b]:.0f} ({means.ratio[arm, b]:.2f})" for b in shares)]
            for arm in group.arm.unique()
        ]
        head = ["score", *(percent(share) for share in shares)]
        found[f"budgets_{problem}"] = table(head, rows)
        found[f"budgets_{problem}_edges"] = str(group.edges_before.iloc[0])
    return found


def digits() -> dict[str, str]:
    """Test accuracy on MNIST, by how weights start and by recipe."""
    starts, recipes = read("sparsity-starts"), read("sparsity-digits")
    starts = starts[starts.problem == "mnist"]
    rows = []
    for start, group in starts.groupby("start", sort=False):
        mean, half = interval(group.score)
        rows.append(
            [start, percent(group["first"].mean()), f"{100 * mean:.2f} ± {100 * half:.2f} %"]
        )
    ends = []
    for recipe, group in recipes.groupby("recipe", sort=False):
        ends.append([recipe, accuracy(group.accuracy)])
    return {
        "starts": table(["initial weights", "after one pass", "at the end"], rows),
        "digits": table(["recipe", "test accuracy"], ends),
        "digits_origin": origin(recipes),
    }


def accuracy(values: Sequence[float]) -> str:
    """Write the mean of accuracies and half the width of its interval."""
    mean, half = interval(values)
    return f"{100 * mean:.2f} ± {100 * half:.2f} %"


# --- formulas -----------------------------------------------------------------------------------


def known_function() -> dict[str, str]:
    """How often the known function was read from a network, and how the estimator did."""
    frame, more = read("known-function"), read("symbolic-known")
    truth = "exp(y**2 + sin(pi*x))"
    exact = frame[frame.formula == truth]
    rows = []
    for (name, way), group in more.groupby(["name", "way"], sort=False):
        times = f"{group.seconds.median():.1f}", f"{group.seconds.max():.1f}"
        rows.append([name, way, f"{group.recovered.sum()} of {len(group)}", *times])
    head = ["function", "way", "recovered", "median seconds", "most"]
    return {
        "known_exact": f"{len(exact)} of {len(frame)}",
        "known_seconds": f"{frame.seconds.min():.1f} to {frame.seconds.max():.1f}",
        "known_origin": origin(frame),
        "known_others": table(head, rows),
        "known_others_origin": origin(more),
    }


def drawn() -> dict[str, str]:
    """How many formulas of each drawn structure were found."""
    tables = ("symbolic-drawn", "symbolic-peers")
    frame, beside = (read(name).query("source == 'judging'") for name in tables)
    kinds = frame.groupby("tier", sort=False).recovered.agg(["sum", "count"])
    found = frame[frame.recovered == 1].seconds
    return {
        "drawn": table(list(kinds.index), [[f"{n} of {all_}" for n, all_ in kinds.to_numpy()]]),
        "drawn_found": f"{frame.recovered.sum()} of {len(frame)}",
        "drawn_soon": str((found <= 20).sum()),
        "drawn_seconds": short(float(found.median())),
        "drawn_origin": origin(frame),
        "drawn_beside": f"{beside.recovered.sum()} of {len(beside)}",
        "drawn_beside_origin": origin(beside),
    }


def recovery() -> dict[str, str]:
    """Equations recovered by suite and noise, and by other programs."""
    frame, peers = read("symbolic-recovery"), read("symbolic-peers").query("source != 'judging'")
    suites = {"feynman": "AI Feynman", "univariate": "one variable"}
    rows = []
    for (source, noise), group in frame.groupby(["source", "noise"]):
        name = f"{group['name'].nunique()} of {suites[source]}"
        counts = (
            f"{group.recovered.sum()} of {len(group)}",
            f"{group.accurate.sum()} of {len(group)}",
        )
        seconds = short(group.seconds.median()), short(group.seconds.max())
        rows.append([name, percent(noise) if noise else "none", *counts, *seconds])
    head = ["equations", "noise", "recovered", "R2 > 0.999", "median seconds", "most"]
    plain = frame[(frame.source == "feynman") & (frame.noise == 0.0)]
    return {
        "recovery": table(head, rows),
        "recovery_origin": origin(frame),
        "recovery_plain": f"{plain.recovered.sum()} of {len(plain)}",
        "peers": table(["method", "recovered", "R2 > 0.999", "median seconds"], peer_rows(peers)),
        "peers_count": str(peers["name"].nunique()),
        "peers_origin": origin(peers),
    }


def peer_rows(peers: pd.DataFrame) -> list[list[str]]:
    """One row for every program that was given the same equations."""
    rows = []
    for (method, version), group in peers.groupby(["method", "version"], sort=False):
        counts = str(group.recovered.sum()), str(group.accurate.sum())
        rows.append([f"{method} {version}", *counts, short(group.seconds.median())])
    return rows


def identification() -> dict[str, str]:
    """Share of edges named rightly, and the time that suggestions take."""
    frame, times = read("symbolic-identification"), read("symbolic-speed")
    rows = []
    for intervals, group in frame.groupby("grid_size"):
        shares = group.groupby("noise")[["first", "named", "edges"]].sum()
        cells = (
            f"{row['first'] / row.edges:.3f} ({row.named / row.edges:.3f})"
            for _, row in shares.iterrows()
        )
        rows.append([intervals, *cells])
    noises = [percent(noise) if noise else "no noise" for noise in sorted(frame.noise.unique())]
    one = times[(times.threads == 1) | (times.who == "pykan")]
    timed = [
        [row.who, row.edges, row.rows, short(row.seconds), short(row.seconds_per_edge)]
        for row in one.itertuples()
    ]
    return {
        "identification": table(["intervals", *noises], rows),
        "identification_edges": str(frame[(frame.grid_size == 5) & (frame.noise == 0)].edges.sum()),
        "identification_families": str(frame.family.nunique()),
        "suggest_speed": table(["", "edges", "rows", "seconds", "seconds an edge"], timed),
        "identification_origin": origin(frame),
    }


# --- attributions and certificates --------------------------------------------------------------


def planted() -> dict[str, str]:
    """Errors against closed forms, and completeness gaps, of all local methods."""
    frame = read("attribution-planted")
    scored = frame[(frame.status == "scored") & (frame.scope == "local") & frame.gap.notna()]
    columns = ["shapley_error", "ig_error", "gap", "seconds_per_row"]
    middle = scored.groupby("method")[columns].median()
    worst = scored.groupby("method")[["shapley_error", "ig_error"]].max()
    rows = [
        [
            f"`{method}`",
            *(f"{short(row[c])} ({short(worst[c][method])})" for c in columns[:2]),
            short(row.gap),
            short(row.seconds_per_row),
        ]
        for method, row in middle.sort_values("shapley_error").iterrows()
        if method != "random" and row.shapley_error == row.shapley_error
    ]
    errors = "Shapley error (worst)", "IG error (worst)"
    return {
        "planted": table(["method", *errors, "relative gap", "seconds a row"], rows),
        "shapley_median": short(middle.shapley_error["shapley"]),
        "planted_cases": str(frame.case.nunique()),
        "planted_origin": origin(frame),
    }


def claims() -> dict[str, str]:
    """Every claim about attributions, with what was measured."""
    frame = read("attribution-claims")
    kept = {True: "yes", False: "**no**"}
    rows = [
        [row.what, f"{row.figure:.3g}", units(row.unit), limit(row.promise), kept.get(row.kept, "")]
        for row in frame.itertuples()
    ]
    head = ["what", "measured", "unit", "at most, or at least for a speed-up", "kept"]
    faster = frame[frame.what.str.endswith("times as fast")].figure.iloc[0]
    return {
        "claims": table(head, rows),
        "claims_origin": origin(frame),
        "shapley_faster": short(faster),
    }


def units(unit: object) -> str:
    """Write a unit, or nothing where there is none."""
    return unit if isinstance(unit, str) else ""


def limit(value: float) -> str:
    """Write what was claimed, or nothing where nothing was."""
    return "" if math.isnan(value) else short(value)


def certificates() -> dict[str, str]:
    """How often certificates were attacked, what broke, how tight bounds are."""
    frame = read("attribution-certificates")
    rows = []
    for (kind, shape), group in frame.groupby(["kind", "shape"]):
        ratios = (short(group[c].median(), 3) for c in ("range_ratio", "lipschitz_ratio"))
        rest = percent(group.unknown.mean(), 0), short(group.seconds.median())
        rows.append([KINDS.get(kind, kind), f"`{shape}`", len(group), *ratios, *rest])
    head = ["networks", "shape", "count", "range", "Lipschitz bound", "unknown", "seconds"]
    return {
        "certificates": table(head, rows),
        "certificates_attempts": f"{frame.attempts.sum() / 1e6:.1f} million",
        "certificates_networks": str(len(frame)),
        "certificates_broken": {0: "none"}.get(int(frame.broken.sum()), str(frame.broken.sum())),
        "certificates_origin": origin(frame),
    }


KINDS = {"wild": "random", "fitted": "fitted to a smooth function"}


def trained() -> dict[str, str]:
    """Methods on networks trained on tables."""
    frame = read("attribution-trained")
    from benchmarks.attribution.trained import seeds_agree

    columns = ["relative_gap", "shapley_error", "shapley_rank", "seconds"]
    middle = frame.groupby("method")[columns].median().sort_values("shapley_error")
    middle["seeds_agree"] = frame.groupby("method")[list(frame.columns)].apply(seeds_agree)
    columns.append("seeds_agree")
    rows = [[f"`{name}`", *(short(row[c]) for c in columns)] for name, row in middle.iterrows()]
    head = ["method", "relative gap", "error", "rank agreement", "seconds", "seeds agree"]
    return {
        "trained": table(head, rows),
        "trained_tables": str(frame.table.nunique()),
        "trained_origin": origin(frame),
    }


def workflow() -> dict[str, str]:
    """Return the whole way on the Californian houses, and the functions that calls enter."""
    steps, methods = read("workflow-steps"), read("workflow-methods")
    rows = [
        [row.step, f"`{row.command}`", row.result, short(row.seconds)] for row in steps.itertuples()
    ]
    scores = [
        [f"`{row.method}`", row.baseline, short(row.relative_gap), short(row.shapley_error)]
        for row in methods.itertuples()
    ]
    calls = [
        [f"`{row.call}`", row.functions, row.limit, row.files]
        for row in read("workflow-functions").itertuples()
    ]
    head = ["method", "baseline", "relative completeness gap", "error"]
    return {
        "housing_steps": table(["step", "command", "result", "seconds"], rows),
        "housing_methods": table(head, scores),
        "housing_origin": origin(steps),
        "functions_entered": table(["call", "functions", "at most", "files"], calls),
    }


# --- scaling ------------------------------------------------------------------------------------


def scaling() -> dict[str, str]:
    """How time grows, what several processes save, and what very many rows would take."""
    growth, processes = read("scaling"), read("scaling-processes")
    return {
        "scaling_growth": growth_table(growth),
        "scaling_rows": f"{growth.rows.max():,}",
        "scaling_processes": processes_table(processes),
        "scaling_beyond": beyond_table(processes),
        "scaling_origin": origin(pd.concat([growth, processes])),
        "scaling_processors": str(processes.threads.iloc[0]),
    }


AXES = ("rows", "features", "width", "grid")
BYTES = 8  # of a number


def growth_table(frame: pd.DataFrame) -> str:
    """Return exponents with their intervals, and what the most rows take."""
    lines = []
    for task, part in frame.dropna(subset=["seconds"]).groupby("task", sort=False):
        exponents = [exponent_cell(part[part["axis"] == axis]) for axis in AXES]
        most = part[(part["axis"] == "rows") & (part["value"] == part["value"].max())]
        lines.append(
            [task, *exponents, short(most.seconds.median()), short(most.extra_mib.median())]
        )
    return table(["task", *AXES, "seconds", "MiB"], lines)


def exponent_cell(part: pd.DataFrame) -> str:
    """Write the exponent that seconds follow, with half of its 95 % interval."""
    from benchmarks.scaling.experiments import exponent

    if part["value"].nunique() < 3:
        return "-"
    slope, half = exponent(part["value"], part["seconds"])
    return f"{slope:.2f}±{half:.2f}"


def processes_table(frame: pd.DataFrame) -> str:
    """Return what one and two processes take, and what one that is killed costs."""
    from benchmarks.scaling.processes import WORDS

    lines = []
    for task, part in frame.groupby("task", sort=False):
        first = part.loc[part["count"].idxmin(), "seconds"]
        for row in part.itertuples():
            faster = f"{first / row.seconds:.2f}" if row.count > 1 and len(part) > 1 else "-"
            note = row.note if isinstance(row.note, str) else ""
            cells = [f"{row.rows:,}", short(row.seconds), faster, short(row.peak_mib), note]
            lines.append([WORDS[task], row.count, *cells])
    head = ["work", "processes", "rows", "seconds", "times one", "MiB, largest", "result"]
    return table(head, lines)


def beyond_table(frame: pd.DataFrame) -> str:
    """Return what so many rows would take one processor, each as long as in the largest run."""
    from benchmarks.scaling.processes import TARGETS, WORDS

    alone, lines = frame[frame["count"] == 1].set_index("task"), []
    for task, (read_numbers, written) in MOVED.items():
        run = alone.loc[task]
        hours = [short(run.seconds / run.rows * target / 3600) for target in TARGETS]
        moved = [short((read_numbers + written) * BYTES * target / 1e12) for target in TARGETS]
        lines.append([WORDS[task], *hours, *moved])
    powers = [f"10^{round(math.log10(target))} rows" for target in TARGETS]
    head = [*(f"core-hours, {one}" for one in powers), *(f"TB, {one}" for one in powers)]
    return table(["work", *head], lines)


# --- networks to read ---------------------------------------------------------------------------


def readable() -> dict[str, str]:
    """Scores, sizes and seconds of small networks and of boosted models, and pairs found."""
    from benchmarks.readable.experiments import means

    frame = read("readable-tables")
    boosted = frame[frame.peer.str.startswith("EBM")]
    scores = means(frame, "score")
    near = scores["kanlens simplest"] >= scores["EBM pairs"] - NEAR
    counts = frame.groupby(["table", "peer"]).seed.nunique().groupby("table").min()
    few = "".join(
        f", {count} of *{table}*" for table, count in counts.items() if count < counts.max()
    )
    return {
        "readable_scores": by_peer(scores, lambda value: f"{value:.3f}"),
        "readable_sizes": by_peer(means(frame, "size"), lambda value: f"{value:,.0f}"),
        "readable_seconds": by_peer(means(frame, "seconds"), short),
        "readable_near": f"{near.sum()} of {len(near)}",
        "readable_splits": f"{counts.max()} random splits of each table{few}",
        "readable_version": boosted.version.iloc[0],
        "readable_origin": origin(frame),
        **planted_pairs(),
        **imitations(),
        **shapes(),
        **losses(),
    }


def intervals() -> dict[str, str]:
    """Shares of new rows in intervals of 90 %, and widths over MAPIE's."""
    frame = read("tables-intervals")
    numbers, sets = frame[frame.classes == 0], frame[frame.classes == 1]
    wide = frame.pivot_table(["covered", "ratio"], "table", "model", sort=False)
    models = ["default", "additive"]
    columns = [(value, model) for value in ("covered", "ratio") for model in models]
    rows = [
        [
            name,
            *(f"{row[key]:.3f}" if key[0] == "covered" else f"{row[key]:.2f}" for key in columns),
        ]
        for name, row in wide.iterrows()
    ]
    head = [
        "table",
        *(f"share, {m}" for m in models),
        *(f"width over MAPIE's, {m}" for m in models),
    ]
    return {
        "interval_tables": str(len(wide)),
        "interval_covered": f"{100 * frame.covered.min():.1f} to {100 * frame.covered.max():.1f} %",
        "interval_ratio": f"{numbers.ratio.min():.2f} to {numbers.ratio.max():.2f}",
        "set_ratio": f"{sets.ratio.min():.2f} to {sets.ratio.max():.2f}",
        "interval_mapie": str(frame.mapie.iloc[0]),
        "interval_table": table(head, rows),
        "interval_origin": origin(frame),
    }


def losses() -> dict[str, str]:
    """Scores of networks of other losses, beside linear models and boosting."""
    from benchmarks.readable.losses import PEERS, summary

    frame = read("readable-losses")
    scores = summary(frame)
    ahead = scores["kanlens simplest"] >= scores["boosting"]
    names = ["table", "loss", "metric", *PEERS]
    rows = [
        [one if isinstance(one, str) else f"{one:.3f}" for one in row]
        for row in scores[names].itertuples(index=False)
    ]
    return {
        "losses_scores": table(names, rows),
        "losses_ahead": f"{ahead.sum()} of {len(ahead)}",
        "losses_splits": str(frame.seed.nunique()),
        "losses_origin": origin(frame),
    }


NEAR = 0.01  # of R2 or log loss


def by_peer(frame: pd.DataFrame, write: Callable[[float], str]) -> str:
    """Write one row per table, one column per peer."""
    rows = [[name, *map(write, row)] for name, row in zip(frame.index, frame.values, strict=True)]
    return table(["table", *frame.columns], rows)


def planted_pairs() -> dict[str, str]:
    """F1 of the pairs in products of the simplest network, on tables with known pairs."""
    frame = read("readable-planted")
    columns = ["true_pairs", "found_pairs", "both", "f1", "edges", "seconds"]
    means = frame.groupby("table", sort=False)[columns].mean()
    rows = [[name, *(short(row[column]) for column in columns)] for name, row in means.iterrows()]
    return {
        "readable_pairs": table(["pairs", "true", "found", "both", "F1", "edges", "seconds"], rows),
        "readable_f1": f"{frame.f1.mean():.2f}",
        "readable_seeds": str(frame.seed.nunique()),
        "readable_pairs_origin": origin(frame),
    }


def imitations() -> dict[str, str]:
    """Fidelity of networks, additive models and trees to models, on rows held out."""
    from benchmarks.readable.imitation import PEERS, fidelities

    frame = read("readable-imitation")
    scores = fidelities(frame)
    own, *others = PEERS
    ahead = (scores[own] > scores[others].max(axis=1)).groupby("teacher", sort=False).sum()
    rows = [
        [*place, *(f"{value:.3f}" for value in row)]
        for place, row in zip(scores.index, scores.values, strict=True)
    ]
    return {
        "imitation_scores": table(["model", "table", *scores.columns], rows),
        "imitation_ahead": ", ".join(f"{count} ({name})" for name, count in ahead.items()),
        "imitation_splits": str(frame.seed.nunique()),
        "imitation_seconds": short(float(frame[frame.peer == own].seconds.mean())),
        "imitation_origin": origin(frame),
    }


def shapes() -> dict[str, str]:
    """Shapes proven and attacked of drawn networks, and the price of known directions."""
    from benchmarks.readable.directions import losses

    drawn, tables = read("constraints-drawn"), read("constraints-tables")
    sums = drawn.groupby("network", sort=False)[["shapes", "proven", "pairs", "broken"]].sum()
    counts = drawn.network.value_counts()
    networks = [[name, str(counts[name]), *map(str, row)] for name, row in sums.iterrows()]
    scores = [
        [
            *(row.table, row.peer),
            *(f"{row[name]:.3f}" for name in ("free", "score", "paid")),
            *(f"{row.broken:,.0f}", f"{row.worst:.0e}", short(row.seconds)),
        ]
        for _, row in losses(tables).iterrows()
    ]
    kanboost = tables[tables.peer == "kanboost"]
    return {
        "shapes_proven": f"{drawn.proven.sum()} of {drawn.shapes.sum()}",
        "shapes_pairs": f"{drawn.pairs.sum():,}",
        "shapes_broken": str(drawn.broken.sum()),
        "shapes_worst": f"{drawn.worst.max():.1g}",
        "shapes_networks": table(
            ["network", "networks", "shapes", "proven", "pairs", "broken"],
            networks,
        ),
        "shapes_origin": origin(drawn),
        "directions_splits": str(tables.seed.nunique()),
        "directions_kanboost": kanboost.version.iloc[0],
        "directions_scores": table(
            ["table", "model", "without", "with", "paid", "broken", "worst", "seconds"], scores
        ),
        "directions_origin": origin(tables),
    }


MOVED = {"ranks": (11, 0), "workers": (10, 13), "deep workers": (10, 13)}  # numbers a row


AREAS: tuple[Callable[[], dict[str, str]], ...] = (
    *(
        libraries,
        speed,
        penalties,
        budgets,
        digits,
        known_function,
        recovery,
        drawn,
        identification,
    ),
    *(planted, claims, certificates, trained, workflow, scaling, readable, intervals),
)
