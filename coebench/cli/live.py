"""What follows a run for `compare`: the progress display, or `--live`, `--live-web` and `--serve-metrics`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def following(live: bool, web: int | None, metrics: int | None) -> Iterator[list[object]]:
    """The listeners of a run; what they opened is closed at the end. Raises BadInput for a port that can't be had."""
    from ..report.progress import Progress

    with contextlib.ExitStack() as stack:
        if not live and web is None and metrics is None:
            yield [stack.enter_context(Progress())]
            return
        from ..report.live.state import LiveState
        from ..report.live.terminal import LiveTerminal

        state = LiveState()
        if metrics is not None:
            from ..report.live.metrics import MetricsServer

            scraped = MetricsServer(state, metrics)
            stack.callback(scraped.close)
            print(f"metrics: {scraped.url}", file=sys.stderr, flush=True)
        if web is not None:
            from ..report.live.web import LiveWeb

            page = LiveWeb(state, web)
            stack.callback(page.close)
            print(f"live: {page.url}", file=sys.stderr, flush=True)
        yield [state, stack.enter_context(LiveTerminal(state) if live else Progress())]
