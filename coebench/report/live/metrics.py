"""`compare --serve-metrics PORT`: the run as OpenMetrics on loopback, for a Prometheus that watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...contract import BadInput
from .state import BOUNDS, LiveState


class MetricsServer:
    """Serves until closed. Counters go on over all trials; gauges say what is now."""

    def __init__(self, state: LiveState, port: int, address: str = "127.0.0.1") -> None:
        """Listen at once, so that a taken port is known before anything is created. Raises BadInput."""
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ModuleNotFoundError:
            raise BadInput(
                "--serve-metrics needs the Python package prometheus_client (pip install 'coebench[metrics]')"
            ) from None
        registry = CollectorRegistry()
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except (OSError, OverflowError) as e:
            raise BadInput(taken("--serve-metrics", port, e)) from None
        registry.register(Collector(state))
        self.url = f"http://{address}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """End it. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def taken(option: str, port: int, error: Exception) -> str:
    """The one line for a port that can't be had."""
    if isinstance(error, OSError) and error.errno == 98:
        return f"{option} {port}: the port is in use; choose another, or 0 for any that is free"
    return f"{option} {port}: {getattr(error, 'strerror', None) or error}; choose a port from 1024 to 65535, or 0 for any"


class Collector:
    """Reads the state when it is asked: between two scrapes it costs nothing."""

    def __init__(self, state: LiveState) -> None:
        self._state = state

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        s = self._state
        with s.lock:
            yield InfoMetricFamily("coebench_run", "The run under way.", value={"run": s.run, **s.info})
            yield GaugeMetricFamily("coebench_trials_planned", "Trials in the plan.", value=len(s.order))
            ended = CounterMetricFamily("coebench_trials", "Trials that ended, by how.", labels=("subject", "scenario", "status"))
            counts: dict[tuple[str, str, str], int] = {}
            for trial, outcome in s.done:
                key = (trial.subject, trial.scenario, outcome.status)
                counts[key] = counts.get(key, 0) + 1
            for key, n in counts.items():
                ended.add_metric(key, n)
            yield ended
            running = GaugeMetricFamily(
                "coebench_trial_running", "1 for the trial under way.", labels=("subject", "scenario", "block", "phase")
            )
            if s.trial is not None:
                phase = s.columns[s.trial.subject].phase
                running.add_metric((s.trial.subject, s.trial.scenario, str(s.trial.block), phase), 1)
            yield running
            instances = GaugeMetricFamily(
                "coebench_instances", "Instances of the present trial, by the engine's word.", labels=("subject", "state")
            )
            answering = GaugeMetricFamily(
                "coebench_instances_answering", "Instances that answer the prober.", labels=("subject", "version")
            )
            rate = GaugeMetricFamily(
                "coebench_request_rate", "Requests of the last second of load, by second.", labels=("subject", "result")
            )
            for c in s.columns.values():
                for state, n in c.instances.items():
                    instances.add_metric((c.subject, state), n)
                versions = list(c.answering.values())
                for version in dict.fromkeys(versions):
                    answering.add_metric((c.subject, version), versions.count(version))
                if c.beats and s.clock() - c.beats[-1].at < 3:
                    rate.add_metric((c.subject, "good"), c.beats[-1].good)
                    rate.add_metric((c.subject, "bad"), c.beats[-1].bad)
            yield from (instances, answering, rate)
            requests = CounterMetricFamily(
                "coebench_requests",
                "Requests since the run began, warm-ups left out.",
                labels=("subject", "scenario", "loop", "result"),
            )
            latency = HistogramMetricFamily(
                "coebench_latency_seconds",
                "Latency of good answers: from the planned send in the open loop, from the send in the closed one.",
                labels=("subject", "scenario", "loop"),
                unit="seconds",
            )
            for labels, t in s.totals.items():
                for result, n in (("good", t.good), ("bad", t.bad), ("unsent", t.unsent)):
                    requests.add_metric((*labels, result), n)
                running_total, buckets = 0, []
                for bound, count in zip((*map(str, BOUNDS), "+Inf"), t.latency, strict=True):
                    running_total += int(count)
                    buckets.append((bound, running_total))
                latency.add_metric(labels, buckets, sum_value=t.seconds)
            yield from (requests, latency)
