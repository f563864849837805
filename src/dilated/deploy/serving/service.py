"""What a server holds, and the way of one request: body, headers, pixels, the network, the answer.

    service = Service({"street": predictor}, ServeOptions())
    answer = await service.predict(request, reservation)             # a starlette request
    service.close()                                                  # after what waits has been labelled

A request is accepted when its images wait for the network: from then on it is answered. Before, it is refused where it
asks for what is not there, or finds no room.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from dilated.deploy.serving.answers import Answer, LabelledImage, encode
from dilated.deploy.serving.metrics import ServerMetrics
from dilated.deploy.serving.options import PredictRequest, ServeOptions, parse_request
from dilated.deploy.serving.refusals import BAD_REQUEST, LATE, TOO_LARGE, TOO_MANY, TOO_SLOW, Refusal, refusal_of
from dilated.deploy.serving.uploads import Upload, inspect_header, read_uploads
from dilated.deploy.serving.worker import ByteBudget, ExpiredError, Job, ModelWorker, QueueFullError
from dilated.errors import InputError
from dilated.input_config import BandArray
from dilated.prediction.image_input import to_pixels
from dilated.prediction.memory import NETWORK_SHARE
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

_LABEL_BYTES = 8
"""Of each pixel, what its label takes until it is sent: ids, an image of them, the file."""
_LOGIT_COPIES = 3
"""Logits, probabilities, and what is sent."""
_WARM_SIDE = 64


class Reservation:
    """What one request holds of a budget, until its answer is sent."""

    def __init__(self, budget: ByteBudget, worker: ModelWorker) -> None:
        self.budget, self.worker, self.held = budget, worker, 0

    def reserve(self, nbytes: int, what: str) -> None:
        """Hold more bytes.

        Raises:
            Refusal: more than there ever are, or than there are now.
        """
        if self.held + nbytes > self.budget.limit:
            size, most = f"{(self.held + nbytes) / 2**20:.0f} MiB", f"{self.budget.limit / 2**20:.0f} MiB"
            hint = "send fewer or smaller images, or ask for labels without probabilities"
            raise Refusal(TOO_LARGE, f"{what} takes {size} of memory, and all requests together may {most}", hint)
        if not self.budget.reserve(nbytes):
            seconds = self.worker.seconds_to_wait
            raise Refusal(TOO_MANY, "memory for images is taken by other requests", "try again later", seconds)
        self.held += nbytes

    def give_back(self) -> None:
        """Let go of everything."""
        self.budget.give_back(self.held)
        self.held = 0


class Service:
    """The networks of a server, its worker, and what bounds it.

    Args:
        predictors: by the names that requests give; the first is the default.
        options: limits.

    Raises:
        InputError: no networks.
    """

    def __init__(self, predictors: Mapping[str, Predictor], options: ServeOptions) -> None:
        if not predictors:
            raise InputError("serve: no network", hint="give one or more")
        self.predictors, self.options = dict(predictors), options
        first = next(iter(self.predictors.values()))
        batch = options.batch or (8 if first.device.type == "cuda" else 1)
        _warm_up(self.predictors.values(), batch)
        left = min(predictor.memory_use.limit.left("cpu") for predictor in self.predictors.values())
        self.budget = ByteBudget(int(left * (1 - NETWORK_SHARE)))
        self.worker = ModelWorker(self.predictors, batch, options.queue)
        self.metrics = ServerMetrics(self.worker, self.budget)
        self.pool = ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1), "dilated-images")
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether images are taken."""
        return self.worker.is_alive and not self.is_draining

    def close(self) -> None:
        """Label what waits, and end the threads."""
        self.is_draining = True
        self.worker.close()
        self.pool.shutdown()

    def describe(self) -> list[dict[str, Any]]:
        """Return the networks as JSON has it."""
        return [
            {
                "name": name,
                "classes": list(predictor.segmenter.classes),
                "colors": [list(color) for color in predictor.segmenter.colors],
                "gives_probabilities": predictor.segmenter.gives_logits,
                "input": predictor.segmenter.input.describe() if predictor.segmenter.input else "8-bit RGB",
                "settings": predictor.settings,
            }
            for name, predictor in self.predictors.items()
        ]

    async def predict(self, request: Any, reservation: Reservation) -> Answer:
        """Answer a request for labels.

        Args:
            request: of starlette.
            reservation: what it holds, which the caller gives back once the answer is sent.

        Raises:
            Refusal: see `refusals`.
        """
        names, options = list(self.predictors), self.options
        try:
            wanted = parse_request(request.query_params.multi_items(), request.headers, names, options.deadline)
        except InputError as error:
            raise Refusal(BAD_REQUEST, error.message, error.hint) from error
        if wanted.needs_logits and not self.predictors[wanted.network].segmenter.gives_logits:
            raise Refusal(
                BAD_REQUEST, f"{wanted.network} gives labels alone", "export the network with --output probabilities"
            )
        body = await self._read_body(request, reservation)
        content_type, encoding = (request.headers.get(f"content-{name}", "") for name in ("type", "encoding"))
        uploads = await read_uploads(body, content_type, encoding)
        del body
        started = time.monotonic()
        try:
            async with asyncio.timeout(wanted.deadline):
                predictions = await self._label(uploads, wanted, reservation, started + wanted.deadline)
                images = [LabelledImage(u.stem, u.name, p) for u, p in zip(uploads, predictions, strict=True)]
                return await self._in_pool(encode, images, wanted, time.monotonic() - started)
        except InputError as error:
            raise refusal_of(error) from error
        except (TimeoutError, ExpiredError) as error:
            seconds, waiting = f"{wanted.deadline:g} s", self.worker.seconds_to_wait
            hint = "give a longer deadline, or a smaller image, or try again later"
            raise Refusal(LATE, f"deadline: {seconds} were over before the labels were there", hint, waiting) from error

    async def _read_body(self, request: Any, reservation: Reservation) -> bytes:
        limit = self.options.body_limit
        too_large = Refusal(
            TOO_LARGE, f"body: has more than the {limit:,} bytes that are taken", "send fewer or smaller images"
        )
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.options.body_timeout):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > limit:
                        raise too_large
                    reservation.reserve(2 * len(chunk), "the body")  # its images are cut out of it
                    body += chunk
        except TimeoutError as error:
            raise Refusal(
                TOO_SLOW, f"body: {len(body):,} bytes came in {self.options.body_timeout:g} s", "send it faster"
            ) from error
        return bytes(body)

    async def _label(
        self, uploads: Sequence[Upload], wanted: PredictRequest, reservation: Reservation, expires: float
    ) -> list[Prediction]:
        """Label the images of a request: all of them, or none."""
        predictor = self.predictors[wanted.network]
        several = len(uploads) > 1
        pixels = []
        async for image in self._decode(uploads, predictor, wanted, reservation, several):
            pixels.append(image)
        jobs = [Job(wanted.network, image, wanted.needs_logits, expires) for image in pixels]
        if len(jobs) > self.worker.capacity:
            raise Refusal(TOO_LARGE, f"{len(jobs)} images, and at most {self.worker.capacity} wait", "send fewer")
        try:
            self.worker.submit(jobs)
        except QueueFullError as error:
            seconds = self.worker.seconds_to_wait
            raise Refusal(TOO_MANY, f"{self.worker.waiting} images wait already", "try again later", seconds) from error
        try:
            return await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        except BaseException:
            for job in jobs:
                job.future.cancel()  # those that are not begun
            raise

    async def _decode(
        self,
        uploads: Sequence[Upload],
        predictor: Predictor,
        wanted: PredictRequest,
        reservation: Reservation,
        several: bool,
    ) -> AsyncIterator[BandArray]:
        """Yield the pixels of each image, after its header has been looked at and its memory found."""
        classes = len(predictor.segmenter.classes)
        for upload in uploads:
            try:
                height, width, bands = await self._in_pool(inspect_header, upload, self.options.max_pixels)
                per_pixel = (3 if bands == 3 else 4 * bands) + _LABEL_BYTES
                per_pixel += 4 * classes * _LOGIT_COPIES if wanted.needs_logits else 0
                reservation.reserve(height * width * per_pixel, f"{upload.name}, {width}x{height} pixels,")
                yield await self._in_pool(to_pixels, upload.data, predictor.segmenter.input)
            except InputError as error:
                raise refusal_of(error, upload.name if several else "") from error

    async def _in_pool(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)


def _warm_up(predictors: Any, batch: int) -> None:
    """Run each network once, so that the first request waits for nothing, and what cannot run is told at the start."""
    for predictor in predictors:
        config, dtype = predictor.segmenter.input, np.uint8
        shape = (_WARM_SIDE, _WARM_SIDE, predictor.segmenter.num_bands)
        image = np.full(shape, 128, dtype if config is None else config.dtype)
        if config is None:
            predictor.batch([image] * batch, batch_size=batch)
            predictor.memory_use.fits(10**7)  # measures what a pixel takes
