"""What a server answers when it does not do what was asked: a status, words, and what mends it.

    raise Refusal(429, "the queue is full", "try again later", retry_after=2)
    refusal_of(InputError("image: the image is damaged"))          # 422

Each becomes JSON: `{"error": "...", "hint": "..."}`, without control characters, and without traceback.
"""

from __future__ import annotations

import json

from dilated.data.images import ImageTooLargeError, UnknownFormatError
from dilated.errors import InputError, ShortMemoryError
from dilated.files import printable

BAD_REQUEST, UNAUTHORIZED, TOO_SLOW, TOO_LARGE, NOT_AN_IMAGE, UNUSABLE = 400, 401, 408, 413, 415, 422
TOO_MANY, BROKEN, UNAVAILABLE, LATE = 429, 500, 503, 504
CLIENT_LEFT = 499
"""As nginx counts those who closed the connection before their answer."""
_MOST_CHARACTERS = 2000


class Refusal(Exception):  # noqa: N818 -- an answer, not a fault of the program
    """A request that is not answered as it asks.

    Args:
        status: of HTTP.
        error: what is wrong, with the value.
        hint: one imperative step that mends it.
        retry_after: seconds after which the same request may succeed, for the header; None if it never will.
        closes: end the connection: where the request ends is not sure.
    """

    def __init__(
        self, status: int, error: str, hint: str = "", retry_after: int | None = None, closes: bool = False
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.hint, self.retry_after = status, error, hint, retry_after
        self.closes = closes

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's head says beside its type."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        headers |= {"Connection": "close"} if self.closes else {}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == UNAUTHORIZED else {})

    def body(self) -> bytes:
        r"""Return the answer as JSON.

        Example:
            >>> Refusal(422, "a\x1b[2J.png: the image is damaged", "copy it again").body()
            b'{"error": "a\\\\x1b[2J.png: the image is damaged", "hint": "copy it again"}'
        """
        texts = {"error": printable(self.error)[:_MOST_CHARACTERS], "hint": printable(self.hint)[:_MOST_CHARACTERS]}
        return json.dumps(texts).encode()


def refusal_of(error: InputError, name: str = "") -> Refusal:
    """Return the refusal of an image or of an option.

    Args:
        error: of reading or of labelling the image.
        name: of the image, where there are several.
    """
    status = UNUSABLE
    if isinstance(error, ImageTooLargeError):
        status = TOO_LARGE
    elif isinstance(error, UnknownFormatError):
        status = NOT_AN_IMAGE
    elif isinstance(error, ShortMemoryError):
        status = UNAVAILABLE
    return Refusal(status, f"{name}: {error.message}" if name else error.message, error.hint)
