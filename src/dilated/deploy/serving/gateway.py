"""What every request passes, whatever it asks for: who may come, how many, in which time, and what is said of it.

    app = Gateway(routes, service, write_log=print)

Around the routes, as an ASGI application: a token, a bound on the requests for labels that are answered at a time,
headers that keep browsers from guessing, a bound on the time in which an answer is taken, words for what failed.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dilated.deploy.serving.refusals import BAD_REQUEST, TOO_MANY, TOO_SLOW, UNAUTHORIZED, UNAVAILABLE, Refusal
from dilated.deploy.serving.service import Reservation, Service
from dilated.files import printable

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

PREDICT = "/predict"
PROTECTED = (PREDICT, "/networks", "/metrics")
"""What needs the token, if there is one; the page holds nothing of the network."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; media-src 'self' "
    "blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_MOST_LOGGED = 200


class Gateway:
    """An ASGI application around another.

    Args:
        app: the routes; a `Refusal` that they raise is answered here.
        service: whose limits hold.
        write_log: given a line for each request; None for none.
    """

    def __init__(self, app: _App, service: Service, write_log: Callable[[str], None] | None = None) -> None:
        self.app, self.service, self.write_log = app, service, write_log

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, answer = time.monotonic(), _TimedSend(send, self.service.options.body_timeout)
        reservation = Reservation(self.service.budget, self.service.worker)
        scope.setdefault("state", {})["reservation"] = reservation
        counted = scope["path"] == PREDICT and scope["method"] == "POST"
        try:
            try:
                self._admit(scope, counted)
                self.service.metrics.clients += counted
                try:
                    await self.app(scope, receive, answer)
                finally:
                    self.service.metrics.clients -= counted
            except Refusal as refusal:
                await answer.refuse(refusal)
        except TimeoutError:
            answer.status = answer.status or TOO_SLOW  # the client does not take its answer; nobody is left to tell
        except Exception:  # answered by the routes; the server goes on
            traceback.print_exc()
        finally:
            reservation.give_back()
            seconds = time.monotonic() - started
            self.service.metrics.count(answer.status, seconds, is_timed=counted)
            if self.write_log is not None:
                place = printable(scope["path"])[:_MOST_LOGGED]
                self.write_log(f"{scope['method']} {place} {answer.status} {seconds:.3f} s")

    def _admit(self, scope: MutableMapping[str, Any], counted: bool) -> None:
        """Let a request in.

        Raises:
            Refusal: of two lengths, without the token, at the end, or beyond the number of clients.
        """
        if {name for name, _ in scope["headers"]} >= {b"content-length", b"transfer-encoding"}:
            # a proxy before this server may take the other one for the end (RFC 9112, section 6.1)
            text = "the request has both Content-Length and Transfer-Encoding"
            raise Refusal(BAD_REQUEST, text, "send one of them", closes=True)
        service = self.service
        if service.options.token and scope["path"] in PROTECTED:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not hmac.compare_digest(given, b"Bearer " + service.options.token.encode()):
                raise Refusal(UNAUTHORIZED, "token: is missing or wrong", "send Authorization: Bearer TOKEN")
        if not counted:
            return
        if not service.is_ready:
            raise Refusal(UNAVAILABLE, "the server is about to stop", "try again later", retry_after=5)
        if service.metrics.clients >= service.options.clients:
            seconds = service.worker.seconds_to_wait
            raise Refusal(
                TOO_MANY, f"{service.metrics.clients} requests are being answered", "try again later", seconds
            )


class _TimedSend:
    """Sends an answer in bounded time, with the headers that all have; keeps its status."""

    def __init__(self, send: _Send, seconds: float) -> None:
        self.send, self.seconds, self.status = send, seconds, 0

    async def __call__(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            names = {name.lower() for name, _ in message["headers"]}
            extra = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
            message["headers"] = [*message["headers"], *(pair for pair in extra if pair[0] not in names)]
        async with asyncio.timeout(self.seconds):
            await self.send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Send a refusal, unless an answer has begun."""
        if self.status:
            return
        body = refusal.body()
        head = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
        headers = [(name.lower().encode(), value.encode()) for name, value in head.items()]
        await self({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})
