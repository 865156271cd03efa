"""The command demo: all steps, on a known function and on two tables of scikit-learn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._lazy import pd
from kanlens._runtime import interrupts_pass
from kanlens.cli._command import command
from kanlens.cli._console import Terminal, seeded

if TYPE_CHECKING:
    from kanlens import KAN, SymbolicResult, Table

KNOWN = "known-function"
STRENGTH = 0.02  # of the penalty that makes a network sparse enough to read
ATTRIBUTED, BACKGROUND = 50, 30  # rows that are explained, and background rows
BUDGET = 0.5  # of each round of pruning of the known function


@command(example="kanlens demo", output="Folder for the results.")
def demo(*, output: Path = Path("kanlens-demo"), seed: int = 0, terminal: Terminal) -> None:
    """Train, prune, symbolize and explain KANs on three problems, and write reports."""
    started = time.perf_counter()
    terminal.check([], model=output / KNOWN / "model.safetensors")
    steps = _Demonstration(terminal, output, seed)
    with interrupts_pass():  # the next steps need fully trained models
        problems = [steps.known_function(), steps.diabetes(), steps.breast_cancer()]
    seconds = time.perf_counter() - started
    terminal.say(f"\nDone in {seconds:.0f} seconds. Open {output / 'diabetes' / 'report.html'}")
    terminal.emit({"problems": problems, "seconds": seconds})


class _Demonstration:
    """Steps of the demonstration, which share a terminal, a folder and a generator."""

    def __init__(self, terminal: Terminal, folder: Path, seed: int) -> None:
        self.terminal, self.folder, self.generator = terminal, folder, seeded(seed)

    def known_function(self) -> dict[str, Any]:
        """Recover exp(sin(pi x) + y^2) from 1000 samples of it."""
        import torch

        say = self.terminal.say
        say("1. A known function: exp(sin(pi x) + y^2), 1000 samples")
        x = torch.rand(1000, 2, generator=self.generator, dtype=torch.float64) * 2 - 1
        z = torch.exp(torch.sin(torch.pi * x[:, 0]) + x[:, 1] ** 2)
        table = kanlens.read_table(pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "z": z}), target="z")
        model = kanlens.KAN([2, 5, 1], grid_size=3, generator=self.generator).double()
        self._fit(model, table, steps=5)
        for _ in range(6):
            self._fit(model, table, steps=15, penalty="weight_l1", strength=STRENGTH)
            pruned = kanlens.prune(model, table.x, table.y, budget=BUDGET, progress=False)
            model = pruned.model
            say(f"   trained with a penalty and pruned: {_shape(model)}")
            if max(model.widths[1:-1]) == 1:
                break
        model.refine(10)
        history = self._fit(model, table, steps=20)
        say(f"   refined to 10 intervals and trained: R2 {history.metric:.8f}")
        symbolic = self._read(model, table)
        return self._write(KNOWN, model, table, symbolic, history, pruned)

    def diabetes(self) -> dict[str, Any]:
        """Predict the progress of diabetes, a regression of 442 patients."""
        from sklearn.datasets import load_diabetes

        data = load_diabetes(as_frame=True, scaled=False)
        frame = data.frame.rename(columns={"target": "progression"})
        self.terminal.say(f"\n2. A regression: diabetes, {len(frame)} patients")
        return self._table_job("diabetes", frame, "progression")

    def breast_cancer(self) -> dict[str, Any]:
        """Classify tumors of 569 patients as benign or malignant."""
        from sklearn.datasets import load_breast_cancer

        data = load_breast_cancer(as_frame=True)
        columns = [name for name in data.feature_names if name.startswith("mean ")]
        labels = data.target.map(dict(enumerate(data.target_names)))
        frame = data.data[columns].assign(diagnosis=labels)
        self.terminal.say(f"\n3. A classification: breast cancer, {len(frame)} patients")
        return self._table_job("breast-cancer", frame, "diagnosis")

    def _table_job(self, name: str, frame: Any, target: str) -> dict[str, Any]:
        """Train the default network, grow the simplest, and derive its formula."""
        from kanlens.training._objective import judge

        say = self.terminal.say
        options: Any = {"generator": self.generator, "progress": self.terminal.progress}
        table = kanlens.read_table(frame, target=target)
        training, test = table.split(0.25, self.generator)
        default = kanlens.fit_default(training, **options).model
        say(f"   default: {_shape(default)}: test {_words(judge(default, test))}")
        front = kanlens.frontier(training, references=["default"], **options)
        model, rows = front.simplest, test.keep(front.simplest.feature_names)
        say(f"   simplest: {_shape(model)}: test {_words(judge(model, rows))}")
        return self._write(name, model, test, self._read(model, training))

    def _fit(self, model: KAN, table: Table, **options: Any) -> Any:
        return kanlens.fit(
            model,
            table,
            generator=self.generator,
            progress=self.terminal.progress,
            **{"grid_updates": 2, **options},
        )

    def _read(self, model: KAN, table: Table) -> SymbolicResult:
        """Derive a formula, and print it with its receipt."""
        rows = table.keep(model.feature_names)
        target = rows.y if model.task == "classification" else None  # numbers are noisy
        symbolic = kanlens.symbolize(model, rows.x, target, generator=self.generator)
        formula = symbolic.get_best()["equation"]
        self.terminal.say(f"   formula: {formula if len(formula) < 160 else formula[:157] + '...'}")
        first = symbolic.receipt.summary().splitlines()[0]
        for line in [first, *symbolic.receipt.warnings()]:
            self.terminal.say(f"   {line}")
        return symbolic

    def _write(
        self, name: str, model: KAN, table: Table, symbolic: SymbolicResult, *results: object
    ) -> dict[str, Any]:
        """Attribute; write models, pictures and a report to a folder; return a summary."""
        from kanlens.cli._model_data import spread
        from kanlens.plotting._style import save

        folder, rows = self.folder / name, table.keep(model.feature_names)
        background = None if model.background is None else model.background[:BACKGROUND]
        x = spread(rows.x, "rows", ATTRIBUTED, self.terminal)
        shares: Any = kanlens.attribute(  # shapley is a local method
            model, x, background=background, progress=self.terminal.progress
        )
        gap = float(shares.completeness_gap.abs().max())
        top = ", ".join(shares.to_importance().to_frame().nlargest(3, "importance")["feature"])
        self.terminal.say(f"   most important features: {top}")
        words = f"Shapley values of {ATTRIBUTED} rows: completeness gap at most {gap:.0e}"
        self.terminal.say(f"   {words}")
        kanlens.save(model, folder / "model.safetensors")
        kanlens.save(symbolic.model, folder / "symbolic.safetensors")
        save(kanlens.plot.network(model), folder / "network.svg")
        save(kanlens.plot.attribution(shares, kind="beeswarm"), folder / "attribution.svg")
        report = kanlens.report(
            model,
            rows,
            folder / "report.html",
            title=name.replace("-", " ").capitalize(),
            results=[shares, symbolic, *results],
            background=background,
            max_rows=ATTRIBUTED,
            generator=self.generator,
            progress=self.terminal.progress,
        )
        self.terminal.wrote(*sorted(folder.iterdir()))
        return {
            "name": name,
            "widths": list(model.widths),
            "edges_alive": model.edges_alive,
            "formula": symbolic.text(),
            "relative_rmse": symbolic.receipt.relative_rmse,
            "completeness_gap": gap,
            "report": str(report.path),
        }


def _shape(model: KAN) -> str:
    return f"KAN {list(model.widths)} with {model.edges_alive} edges"


def _words(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
