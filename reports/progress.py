"""Progress of long work: a bar on a terminal, nothing anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reports.safe_text import printable

Show = Callable[[int, str], None]


@contextmanager
def working(total: int | None = None) -> Iterator[Show]:
    """Shows work on stderr while the block runs: `show(done, text)`; without a `total` (in any unit) only the text."""
    if not sys.stderr.isatty():
        yield lambda _done, _text: None
        return
    # Rich costs 50 ms at start; most runs are in a pipe.
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    from reports.terminal import console_for

    extent: list[ProgressColumn] = [] if total is None else [BarColumn()]
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), *extent, TimeElapsedColumn()]
    with Progress(*columns, console=console_for(sys.stderr), transient=True) as bar:
        task = bar.add_task("reading", total=total)

        def show(done: int, text: str) -> None:
            bar.update(task, completed=done, description=printable(text) or None)

        yield show
