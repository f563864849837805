"""From a request's body to images: names that are safe, headers that are looked at first, then pixels.

    uploads = await read_multipart(body, content_type)
    height, width = inspect_header(uploads[0], max_pixels)         # nothing is decoded
    pixels = to_pixels(uploads[0].data, predictor.segmenter.input)

Only formats of `FORMATS` are decoded: pillow reads others too, some by starting other programs.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from dilated.data.band_header import read_band_header
from dilated.data.images import ImageTooLargeError, UnknownFormatError, open_image
from dilated.deploy.serving.refusals import BAD_REQUEST, NOT_AN_IMAGE, Refusal
from dilated.errors import InputError
from dilated.files import printable

FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Of pillow, those whose decoders stay within this process."""
MAX_IMAGES = 256
"""The most images of one request."""
_MOST_FIELDS = 16
_MOST_LETTERS = 80
_UNSAFE = re.compile(r"[^\w.() -]")
_MULTIPART = "multipart/form-data"
_IMAGE_TYPES = ("application/octet-stream", "application/dicom", "application/x-www-form-urlencoded", "")
"""Types of a body that may be an image beside `image/...`; the third is what curl says unless told otherwise."""


@dataclass(frozen=True)
class Upload:
    """One image of a request.

    Args:
        name: safe as a file's name.
        data: the bytes of its file.
    """

    name: str
    data: bytes

    @property
    def stem(self) -> str:
        """The name without suffix, of which outputs are named."""
        return Path(self.name).stem


def safe_name(name: str) -> str:
    r"""Return a file's name without folders, control characters and what shells or other systems read otherwise.

    Example:
        >>> safe_name("../../etc/passwd"), safe_name("C:\\x\\a\x1b[2J.png"), safe_name("..")
        ('passwd', 'a__2J.png', 'image')
    """
    last = re.split(r"[/\\]", name)[-1]
    shown = _UNSAFE.sub("_", last.replace("\x00", "")).strip(" .")
    suffix = Path(shown).suffix[:10]
    return (
        shown[: _MOST_LETTERS - len(suffix)] if len(shown) <= _MOST_LETTERS else shown[: _MOST_LETTERS - 10] + suffix
    ) or "image"


def with_unique_stems(uploads: Iterable[Upload]) -> list[Upload]:
    """Number the names whose outputs would have the same name.

    Example:
        >>> [u.name for u in with_unique_stems([Upload("a.png", b""), Upload("a.jpg", b""), Upload("A.png", b"")])]
        ['a.png', 'a-2.jpg', 'A-3.png']
    """
    taken: set[str] = set()
    unique = []
    for upload in uploads:
        path, stem, number = Path(upload.name), upload.stem, 1
        while stem.lower() in taken:
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.lower())
        unique.append(Upload(f"{stem}{path.suffix}", upload.data))
    return unique


async def read_uploads(body: bytes, content_type: str, encoding: str) -> list[Upload]:
    """Return the images of a body: itself, or the files of a form.

    Args:
        content_type, encoding: of the request's header; empty if it has none.

    Raises:
        Refusal: a type that is no image, an empty body, a damaged form, or one without files.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if encoding.lower() not in ("", "identity"):
        raise Refusal(NOT_AN_IMAGE, f"Content-Encoding: {encoding!r} is not read", "send the file as it is")
    if kind == _MULTIPART:
        uploads = await _read_form(body, content_type)
    elif kind.startswith("image/") or kind in _IMAGE_TYPES:
        uploads = [Upload("image", body)]
    else:
        raise Refusal(
            NOT_AN_IMAGE,
            f"Content-Type: {kind!r} is no image",
            f"send an image as image/..., or several as {_MULTIPART}",
        )
    for upload in uploads:
        if not upload.data:
            raise Refusal(BAD_REQUEST, f"{upload.name}: is empty", "send the bytes of an image's file")
    return with_unique_stems(uploads)


async def _read_form(body: bytes, content_type: str) -> list[Upload]:
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncIterator[bytes]:
        yield body

    headers = Headers({"content-type": content_type})
    try:
        form = await MultiPartParser(headers, stream(), max_files=MAX_IMAGES, max_fields=_MOST_FIELDS).parse()
    except (MultiPartException, KeyError, ValueError, UnicodeError) as error:
        reason = getattr(error, "message", "") or str(error) or type(error).__name__
        raise Refusal(BAD_REQUEST, f"form: is damaged ({reason})", f"send at most {MAX_IMAGES} files") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise Refusal(BAD_REQUEST, "form: has no files", "send images as files, such as curl -F image=@photo.jpg")
        return [Upload(safe_name(file.filename or ""), await file.read()) for file in files]
    finally:
        await form.close()


def inspect_header(upload: Upload, max_pixels: int) -> tuple[int, int, int]:
    """Return the height, width and bands of an image by its header; nothing is decoded.

    Raises:
        InputError: no image, a format that is not decoded here, or more pixels than an image may have.
    """
    file = io.BytesIO(upload.data)
    too_large = ImageTooLargeError(
        f"image: has more than the {max_pixels:,} pixels that are taken",
        hint="send a smaller image, or label it with `dilated predict --tile`",
    )
    header = read_band_header(file)
    if header is not None:
        (height, width), bands = header.size, len(header.bands)
    else:
        try:
            with open_image(file, max_pixels) as image:
                if image.format not in FORMATS:
                    raise UnknownFormatError(
                        f"image: found {printable(str(image.format))}", hint=f"give one of {', '.join(FORMATS)}"
                    )
                (width, height), bands = image.size, 3
        except ImageTooLargeError as error:
            raise too_large from error
    if width * height > max_pixels:
        raise too_large
    if width * height < 1:
        raise InputError(f"image: {width}x{height} has no pixels", hint="send an image of 1x1 or more")
    return height, width, bands
