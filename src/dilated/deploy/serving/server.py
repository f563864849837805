"""The process that listens: a socket, uvicorn, and an end that loses nothing.

run_server(create_app(predictors, options), options, on_start=print)

SIGTERM or Ctrl-C closes the socket; requests whose head has come are answered, then the process ends with status 0.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from dilated.deploy.serving.gateway import Gateway
from dilated.deploy.serving.options import ServeOptions
from dilated.deploy.serving.refusals import BAD_REQUEST, TOO_SLOW, UNAVAILABLE, Refusal
from dilated.errors import InputError
from dilated.models.runtimes import missing_extra

_MOST_HEAD_BYTES = 64 * 2**10
_SPARE_CONNECTIONS = 64
"""Beyond twice the clients: those whose heads have not come, or that wait for another request."""
_BACKLOG = 1024
_SECONDS_TO_SPARE = 5
_LINGER_SECONDS = 2
"""In which a refused client can read why, before the connection is closed."""


def _open_socket(options: ServeOptions) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InputError: the port is taken or not allowed, or the host has no such address.
    """
    place = f"{options.host}:{options.port}"
    try:
        family, *_, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        hint = "give the address of this machine by --host"
        if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
            hint = "give another --port, or 0 for one that is free"
        raise InputError(
            f"serve: cannot listen on {place} ({getattr(error, 'strerror', None) or error})", hint
        ) from error


def run_server(app: Gateway, options: ServeOptions, on_start: Callable[[str], None]) -> None:
    """Serve until a signal comes.

    Args:
        app: of `create_app`.
        on_start: given the address, once connections are taken.

    Raises:
        InputError: the socket cannot be opened; uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise missing_extra("serve", "uvicorn", "serve") from error
    try:
        listener = _open_socket(options)
    except InputError:
        app.service.close()
        raise
    with listener:
        config = uvicorn.Config(
            app,
            http=_make_protocol(options),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
            timeout_graceful_shutdown=int(options.deadline + 2 * options.body_timeout) + _SECONDS_TO_SPARE,
        )

        class Server(uvicorn.Server):
            """uvicorn's, which ends with status 0, and says when it has begun."""

            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(_handled_signals(self.handle_exit))
                    yield

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                on_start(_to_url(options.host, listener.getsockname()[1]))

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                app.service.is_draining = True
                await super().shutdown(sockets)

        Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _handled_signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Let signals end the server, where this is the main thread: no other has any."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, old)


def _to_url(host: str, port: int) -> str:
    """Return the address that a browser on this machine takes.

    Example:
        >>> _to_url("127.0.0.1", 8000), _to_url("::1", 8000), _to_url("0.0.0.0", 80)
        ('http://127.0.0.1:8000', 'http://[::1]:8000', 'http://0.0.0.0:80')
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _make_protocol(options: ServeOptions) -> type:
    """Return uvicorn's protocol with words for what is no HTTP, and a bound on connections and on slow heads."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    most = 2 * options.clients + _SPARE_CONNECTIONS

    class BoundedProtocol(H11Protocol):
        timer: Any = None
        is_refused = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                self.answer(Refusal(UNAVAILABLE, f"{most} connections are open", "try again later", retry_after=5))
            else:
                self.start_timer()

        def data_received(self, data: bytes) -> None:
            if self.is_refused:
                return  # read and forgotten, or the refusal would be lost on its way
            super().data_received(data)
            if not self.is_idle:
                self.stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop_timer()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self.start_timer()
            super().on_response_complete()
            if not self.is_idle:  # the next request had come already
                self.stop_timer()

        def shutdown(self) -> None:
            if self.is_refused:
                self.transport.close()
            else:
                super().shutdown()

        def send_400_response(self, msg: str) -> None:
            self.answer(Refusal(BAD_REQUEST, "the request is no HTTP, or its head is too long", "see /docs"))

        @property
        def is_idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def start_timer(self) -> None:
            self.stop_timer()
            self.timer = self.loop.call_later(options.body_timeout, self.give_up)

        def stop_timer(self) -> None:
            if self.timer is not None:
                self.timer.cancel()

        def give_up(self) -> None:
            if self.is_idle and not self.transport.is_closing():
                self.answer(Refusal(TOO_SLOW, f"no request came in {options.body_timeout:g} s", "send it faster"))

        def answer(self, refusal: Refusal) -> None:
            """Send a refusal where no application runs, if one can be sent, and close."""
            body = refusal.body()
            head = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            headers = [(name.encode(), value.encode()) for name, value in {**head, **refusal.headers}.items()]
            with contextlib.suppress(h11.LocalProtocolError):  # an answer has been sent or begun
                for event in (
                    h11.Response(status_code=refusal.status, headers=headers),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.is_refused = True
            self.stop_timer()
            self.transport.write_eof()
            self.timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    return BoundedProtocol
