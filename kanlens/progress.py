"""A bar for long work: on stderr, and silent where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONG = 60.0  # seconds


@contextmanager
def progress_bar(
    description: str, total: int, *, shown: bool | None = None
) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs, and take it away afterwards.

    Yields ``advance(steps=1, note="")``, which moves the bar and sets the words behind it. Shown
    where stderr is a terminal, unless `shown` is False.
    """
    if shown is False:
        yield lambda steps=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda steps=1, note="": bar.update(task, advance=steps, note=note)


def say_duration(
    call: str, seconds: Callable[[], float], advice: str, *, shown: bool | None = None
) -> None:
    """Say in one line how long work will take, when that is over a minute, where a bar is shown."""
    if shown is False:
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal and (time := seconds()) > LONG:
        minutes = f"about {time / LONG:.0f} minute{'s' * (time >= 1.5 * LONG)}"
        console.print(f"{call}: {minutes}; {advice}", markup=False, highlight=False)
