"""The ASGI application: labels, health, metrics, the page, and their description as OpenAPI; nothing needs a network.

app = create_app({"street": Predictor("street")})    # for uvicorn, or any other ASGI server
"""

# Annotations are evaluated here, not kept as text: FastAPI reads them, and is imported only where it is installed.
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from dilated._version import __version__
from dilated.deploy.serving.gateway import PREDICT, Gateway
from dilated.deploy.serving.options import MOST_TOP, OUTPUTS, ServeOptions
from dilated.deploy.serving.refusals import BROKEN, CLIENT_LEFT, Refusal
from dilated.deploy.serving.service import Service
from dilated.models.runtimes import missing_extra
from dilated.prediction.predictor import Predictor
from dilated.report.page import render

_SAMPLE = "street_camvid.jpg"


def create_app(
    predictors: Mapping[str, Predictor],
    options: ServeOptions | None = None,
    write_log: Callable[[str], None] | None = None,
) -> Gateway:
    """Return an ASGI application that labels images.

    Args:
        predictors: by the names that requests give; the first is the default.
        options: limits and the token; where to listen is left to who runs the application.
        write_log: given a line for each request.

    Raises:
        InputError: no networks; the extra `serve` is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
        from prometheus_client import CONTENT_TYPE_LATEST
        from starlette.exceptions import HTTPException
        from starlette.requests import ClientDisconnect
    except ImportError as error:
        raise missing_extra("serve", error.name or "fastapi", "serve") from error
    options = options or ServeOptions()
    service = Service(predictors, options)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        service.close()

    async def predict(request: Request) -> Response:
        answer = await service.predict(request, request.scope["state"]["reservation"])
        headers = {"Content-Disposition": f'inline; filename="{_to_ascii(answer.name)}"'}
        if answer.encoding:
            headers["Content-Encoding"] = answer.encoding
        return Response(answer.content, media_type=answer.media_type, headers=headers)

    async def networks() -> Response:
        return JSONResponse({"networks": service.describe(), "limits": _limits(options), "version": __version__})

    async def alive() -> Response:
        return PlainTextResponse("ok\n") if service.worker.is_alive else PlainTextResponse("ended\n", 503)

    async def ready() -> Response:
        return PlainTextResponse("ready\n") if service.is_ready else PlainTextResponse("not ready\n", 503)

    async def metrics() -> Response:
        return Response(service.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def sample() -> Response:
        content = resources.files("dilated").joinpath("samples", _SAMPLE).read_bytes()
        return Response(content, media_type="image/jpeg")

    async def page() -> Response:
        names = list(service.predictors)
        named = [{"name": n, "probabilities": p.segmenter.gives_logits} for n, p in service.predictors.items()]
        settings = {"top": MOST_TOP, "token": bool(options.token), "networks": named}
        return HTMLResponse(render("serve.html", title="dilated", subtitle=", ".join(names), settings=settings))

    async def docs() -> Response:
        values = {"schema": app.openapi(), "outputs": OUTPUTS}
        return HTMLResponse(render("api.html", title="dilated: the API", subtitle="", **values))

    async def refuse(_: Request, error: Exception) -> Response:
        refusal = _to_refusal(error)
        headers = {**refusal.headers, **(getattr(error, "headers", None) or {})}
        return Response(refusal.body(), refusal.status, media_type="application/json", headers=headers)

    app = FastAPI(title="dilated", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    routes = [
        (PREDICT, predict, "POST", "Label an image, or several", Response),
        ("/networks", networks, "GET", "The networks, their classes and colors, and the limits", Response),
        ("/healthz", alive, "GET", "200 while the thread that labels runs", Response),
        ("/readyz", ready, "GET", "200 while images are taken, 503 from the signal to stop on", Response),
        ("/metrics", metrics, "GET", "Counts and times, as Prometheus reads them", Response),
        ("/sample", sample, "GET", "A photograph to try it with", Response),
    ]
    for path, endpoint, method, summary, response in routes:
        extra = _describe_predict(list(service.predictors), options) if path == PREDICT else None
        app.add_api_route(
            path, endpoint, methods=[method], summary=summary, response_class=response, openapi_extra=extra
        )
    app.add_api_route("/", page, include_in_schema=False)
    app.add_api_route("/docs", docs, include_in_schema=False)
    for kind in (Refusal, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, refuse)
    app.state.service = service
    return Gateway(app, service, write_log)


def _to_refusal(error: Exception) -> Refusal:
    """Return the words of anything that the routes raise."""
    if isinstance(error, Refusal):
        return error
    if type(error).__name__ == "ClientDisconnect":
        return Refusal(CLIENT_LEFT, "the client has left")
    status = getattr(error, "status_code", None)
    if status is None:
        return Refusal(BROKEN, "the server failed at this request", "report what its log says")
    words = {
        404: ("there is no such address", "GET /docs lists them"),
        405: ("this address has no such method", "GET /docs lists them"),
    }
    return Refusal(status, *words.get(status, (str(getattr(error, "detail", error)), "see /docs")))


def _limits(options: ServeOptions) -> dict[str, float]:
    names = ("max_pixels", "clients", "queue", "deadline", "body_timeout")
    return {"max_bytes": options.body_limit, **{name: getattr(options, name) for name in names}}


def _to_ascii(name: str) -> str:
    return name.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_")


def _describe_predict(networks: list[str], options: ServeOptions) -> dict[str, Any]:
    """Return what OpenAPI says of the one address that takes something."""
    words = ", ".join(OUTPUTS)
    parameters = [
        ("output", "query", {"type": "string", "default": "labels"}, f"one, or several with commas: {words}"),
        ("network", "query", {"type": "string", "enum": networks, "default": networks[0]}, "which network labels"),
        ("deadline", "query", {"type": "number", "maximum": options.deadline}, "seconds; 504 if they are over before"),
        ("top", "query", {"type": "integer", "maximum": MOST_TOP}, "of view, the most probable classes it has"),
        ("X-Deadline", "header", {"type": "number"}, "as deadline"),
    ]
    binary = {"schema": {"type": "string", "format": "binary"}}
    several = {"type": "object", "additionalProperties": binary["schema"]}
    error = {"type": "object", "properties": {"error": {"type": "string"}, "hint": {"type": "string"}}}
    refusals = {
        400: "a query or form that is damaged",
        401: "without the token",
        408: "the body came too slowly",
        413: "too many bytes or pixels",
        415: "no image",
        422: "an image that cannot be labelled",
        429: "too much at a time; see Retry-After",
        503: "the server stops, or memory ran out",
        504: "the deadline was over",
    }
    return {
        "parameters": [
            {"name": name, "in": place, "schema": schema, "description": text}
            for name, place, schema, text in parameters
        ],
        "requestBody": {"content": {"image/*": binary, "multipart/form-data": {"schema": several}}, "required": True},
        "responses": {
            "200": {"description": "one output of one image as it is; else a ZIP", "content": {"*/*": binary}},
            **{
                str(status): {"description": text, "content": {"application/json": {"schema": error}}}
                for status, text in refusals.items()
            },
        },
    }
