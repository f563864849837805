"""XML files, read without the declarations that let a small file fill the memory or name other files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from dilated.errors import InputError

_SCAN_BYTES = 4096


def begins_with_element(path: Path, name: str) -> bool:
    """Whether a file begins as XML whose first element has this name, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(_SCAN_BYTES)
    except OSError:  # a folder, or a link to nothing
        return False
    elements: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, _: elements.append(tag)
    with suppress(expat.ExpatError, ValueError, LookupError):  # damaged further on, or an unknown encoding
        parser.Parse(head, False)
    return elements[:1] == [name]


def read_xml(path: Path, what: str) -> ElementTree.Element:
    """The root element of an XML file.

    Args:
        what: the export that the file should be, for messages.

    Raises:
        InputError: a missing or damaged file, or one that declares a document type or entities.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise InputError(f"{path}: {what}: declares a document type, which such files never do", hint="export it again")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {what}: not a whole XML file ({error})", hint="export it again") from error
