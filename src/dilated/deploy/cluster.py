"""Work for many machines, by Ray Data: a pool of processes, each with one worker, that others replace when they die.

with Cluster("ray://head:10001") as cluster:
    for result in cluster.map(Labeller, (network,), chunks):       # in any order; each chunk once or again
        ...
"""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from dilated.errors import InputError
from dilated.models.runtimes import missing_extra

Work = Callable[[Any], Any]
"""What a process of the pool does with an item; both travel by pickle."""
_CHUNKS_PER_ACTOR = 4
"""A process that dies loses so little, and none waits long for the last."""
_MOST_IN_CHUNK = 64


class Cluster:
    """A cluster of Ray, joined, or one that is started on this machine for as long as the context lasts.

    Args:
        address: ray://HOST:PORT of a cluster's head, ray://auto for the cluster that this machine belongs to, or
            ray://local for processes of this machine.
        actors: how many processes; by default one for each GPU of the cluster, or else for each of its CPUs.

    Raises:
        InputError: Ray is not installed, an address that is none, or of no cluster that answers.
    """

    def __init__(self, address: str, actors: int | None = None) -> None:
        if not re.fullmatch(r"ray://(auto|local|[^/:\s]+:[0-9]{1,5})", address):
            raise InputError(f"on: {address!r} is no cluster", hint="give ray://HOST:10001, ray://auto or ray://local")
        if actors is not None and actors < 1:
            raise InputError(f"actors: {actors} is not a positive number", hint="give 1 or more")
        self.address, self.wanted = address, actors
        self.is_ours = False

    def __enter__(self) -> Self:
        try:
            os.environ.setdefault("RAY_DEDUP_LOGS", "1")
            import ray
            import ray.data
        except ImportError as error:
            raise missing_extra("on", "ray[data]", "ray") from error
        if not ray.is_initialized():
            place: dict[str, Any] = {"address": self.address.replace("ray://auto", "auto")}
            if self.address == "ray://local":
                place = {"num_cpus": self.wanted or os.cpu_count(), "include_dashboard": False}
            try:
                ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # ConnectionError, ValueError, RuntimeError and what lies below gRPC
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                raise InputError(
                    f"on: {self.address}: no cluster answers there ({reason})",
                    hint="start one by `ray start --head`, or use ray://local",
                ) from error
            self.is_ours = True
        resources = ray.cluster_resources()
        self.gpus = int(resources.get("GPU", 0))
        self.actors = self.wanted or self.gpus or max(1, int(resources.get("CPU", 1)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.is_ours:
            import ray

            ray.shutdown()

    def split(self, items: Sequence[Any]) -> list[list[Any]]:
        """Divide items into chunks of neighbors, a few for each process.

        Example:
            >>> cluster = Cluster("ray://local")
            >>> cluster.actors = 2
            >>> [len(chunk) for chunk in cluster.split(range(20))]
            [3, 3, 3, 3, 3, 3, 2]
        """
        size = min(_MOST_IN_CHUNK, max(1, -(-len(items) // (_CHUNKS_PER_ACTOR * self.actors))))
        return [list(items[start : start + size]) for start in range(0, len(items), size)]

    def gpus_per_actor(self, actors: int) -> float:
        """The part of a GPU that each of so many processes takes, so that all find room; 0 where there is none.

        Example:
            >>> cluster = Cluster("ray://local")
            >>> cluster.gpus = 2
            >>> [cluster.gpus_per_actor(actors) for actors in (1, 2, 3)]
            [1.0, 1.0, 0.5]
        """
        return 1 / -(-actors // self.gpus) if self.gpus else 0.0

    def map(self, work: Callable[..., Work], arguments: tuple[Any, ...], items: Sequence[Any]) -> Iterator[Any]:
        """Yield what the workers make of the items, in the order in which they are done.

        A process that dies is replaced, and what it was doing is done again: work must bear that.

        Args:
            work: called once in each process, with the arguments, for the worker.

        Raises:
            InputError: that a worker raised; or the cluster stopped.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"item": pickle.dumps(item)} for item in items]
        actors = min(self.actors, len(rows))
        try:
            results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _Actor,
                fn_constructor_args=(pickle.dumps((work, arguments)),),
                batch_size=1,
                num_cpus=1,
                num_gpus=self.gpus_per_actor(actors),
                compute=ray.data.ActorPoolStrategy(size=actors),
            )
            for row in results.iter_rows():
                result = pickle.loads(row["item"])
                if isinstance(result, InputError):
                    raise result
                yield result
        except RayTaskError:
            raise  # a fault of the work, whose traceback tells where
        except (RayError, ConnectionError) as error:  # the head or all processes are gone
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(
                f"on: {self.address}: the cluster stopped ({reason})",
                hint="start it again and repeat the command; --skip-existing keeps the images that are done",
            ) from error


class _Actor:
    """What Ray makes in each process: a worker that is fed rows."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.worker: Work | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"item": [pickle.dumps(self._work(pickle.loads(item))) for item in batch["item"]]}

    def _work(self, item: Any) -> Any:
        try:
            if self.worker is None:
                make, arguments = pickle.loads(self.content)
                self.worker = make(*arguments)
            return self.worker(item)
        except InputError as error:  # what a user can mend is no fault of the process
            return error
