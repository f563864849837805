"""What a server counts, as Prometheus reads it.

metrics = ServerMetrics(worker, budget)
metrics.count(200, seconds=0.12, is_timed=True)
metrics.render()                                         # text, for `/metrics`
"""

from __future__ import annotations

import psutil

from dilated.deploy.serving.worker import ByteBudget, ModelWorker


class ServerMetrics:
    """Counters and gauges of one server, in a registry of its own.

    Args:
        worker: whose queue is told.
        budget: whose bytes are told.
    """

    def __init__(self, worker: ModelWorker, budget: ByteBudget) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.clients = 0
        self.registry = CollectorRegistry()
        self.requests = Counter("dilated_requests", "Requests answered, by status.", ["status"], registry=self.registry)
        self.seconds = Histogram(
            "dilated_request_seconds",
            "Seconds from a request's head to the end of its answer, of those answered with labels.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60),
            registry=self.registry,
        )
        gauges = {
            "dilated_clients": ("Requests that are being answered.", lambda: self.clients),
            "dilated_queue_images": ("Images that wait for the network.", lambda: worker.waiting),
            "dilated_images_labelled": ("Images labelled since the start.", lambda: worker.labelled),
            "dilated_seconds_per_image": ("Of the network, a moving mean.", lambda: worker.seconds_per_image),
            "dilated_held_bytes": ("Bodies, images and logits that requests hold.", lambda: budget.held),
            "dilated_resident_bytes": ("Memory of the process.", lambda: psutil.Process().memory_info().rss),
        }
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=self.registry).set_function(read)

    def count(self, status: int, seconds: float, is_timed: bool) -> None:
        """Count an answer; of those that labels were asked for, the time of the successful ones."""
        self.requests.labels(status=str(status)).inc()
        if is_timed and status == 200:
            self.seconds.observe(seconds)

    def render(self) -> bytes:
        """Return the text of all metrics."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self.registry)
        return text
