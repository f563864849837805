"""Ways to damage what is text: lists, classes.toml, JSON, shapes and runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_picks import pick
from fuzz_sets import Set


def text(data: Set, random: Random, kind: str) -> bool:
    path = pick(random, data.texts)
    if path is None:
        return False
    content = path.read_bytes()
    lines = content.split(b"\n")
    if kind == "CRLF":
        content = content.replace(b"\n", b"\r\n")
    elif kind == "BOM":
        content = b"\xef\xbb\xbf" + content
    elif kind == "leads out":
        names = re.findall(rb"[\w./-]+\.(?:png|jpe?g|npy|tif)", content)
        if not names:
            return False
        name = random.choice(names)
        at = content.index(name)
        new = random.choice([b"../" + name, b"../../../../etc/passwd", b"/" + name, b"./" + name, b"x/../" + name])
        content = content[:at] + new + content[at + len(name) :]
    elif kind == "UTF-16":
        content = content.decode("utf-8", "replace").encode("utf-16")
    elif kind == "Latin-1":
        content = content.replace(b"a", b"\xe4", 1)
    elif kind == "NUL":
        at = random.randrange(len(content) + 1)
        content = content[:at] + b"\0" + content[at:]
    elif kind == "blank lines":
        content = content.replace(b"\n", random.choice([b"\n\n", b"\n  \n", b"  \n", b"\n\t\n"]))
    elif kind == "huge line":
        at = random.randrange(len(lines) + 1)
        long = [
            b"x" * 100_000,
            b"9" * 5_000,
            b"[" * 3_000,
            b"a/" * 3_000,
            b"x " * 9_000,
            b"y" * 300 + b" z",
            b"1:" + b"9" * 5000 + b",1,1::",
        ]
        lines.insert(at, random.choice(long))
        content = b"\n".join(lines)
    elif kind == "lose a line":
        del lines[random.randrange(len(lines))]
        content = b"\n".join(lines)
    elif kind == "twice a line":
        at = random.randrange(len(lines))
        lines.insert(at, lines[at])
        content = b"\n".join(lines)
    elif kind == "swap lines":
        random.shuffle(lines)
        content = b"\n".join(lines)
    elif kind == "character":
        at = random.randrange(len(content) + 1)
        new = random.choice(
            [b'"', b"'", b"{", b"]", b":", b",", b" ", b"-", b"#", b"9", b"\\", b"\xc3\xa9", b"\n", b".", b"/"]
        )
        content = content[:at] + new + content[at + random.randint(0, 1) :]
    elif kind == "number":
        spots = [i for i, c in enumerate(content) if chr(c).isdigit()]
        if not spots:
            return False
        at = random.choice(spots)
        new = random.choice(
            [b"-1", b"nan", b"inf", b"1e9", b"0.5", b"99999999999999999999", b"300", b"true", b'"1"', b"0"]
        )
        content = content[:at] + new + content[at + 1 :]
    path.write_bytes(content)
    return True


TOMLS = (
    b"",
    b"class = 5\n",
    b"class = [5]\n",
    b"class = [{}]\n",
    b"[class]\nname = 'a'\n",
    b"[[class]]\nname = 'a'\n",
    b"[[class]]\nname = 5\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = ['a']\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = ''\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 256]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, -1]\n",
    b"[[class]]\nname = 'a'\ncolor = [0.0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [[0], 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = 'red'\n",
    b"[[class]]\nname = 'a'\ncolor = [true, false, true]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [-1]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [65536]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [true]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [[0]]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = 0\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = []\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [0.0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [99999999999999999999]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\nvalues = [" + b"9" * 5000 + b"]\n",
    b"ignore = [[1]]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [{}]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = 'all'\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = ['1']\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [true]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [0]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore = [1, 2]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"read = 5\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"read = []\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"read = 'colors'\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore_colors = [1]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore_colors = [[1]]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"ignore_colors = [[[1], 2, 3]]\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"color = 1\n[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n",
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n" * 2,
    b"[[class]]\nname = 'a'\ncolor = [0, 0, 0]\n[[class]]\nname = 'b'\ncolor = [0, 0, 0]\nvalues = [0]\n",
    b"a = " + b"[" * 3000,
    b"a = 2020-01-01\n",
    b"\xff\xfe",
)


def toml(data: Set, random: Random) -> bool:
    """Another classes.toml, or another line in it."""
    path = data.root / "classes.toml"
    choice = random.randrange(len(TOMLS) + 12)
    if choice < len(TOMLS):
        path.write_bytes(TOMLS[choice])
    elif choice == len(TOMLS):
        entries = (f"[[class]]\nname = 'c{i}'\ncolor = [{i}, 0, 0]\n" for i in range(random.choice([254, 255, 256])))
        path.write_text("".join(entries))
    elif choice == len(TOMLS) + 1 or not path.is_file():
        path.unlink(missing_ok=True)
    else:
        content = path.read_text(errors="replace")
        old, new = random.choice(
            [
                ("values = [1]", "values = [2]"),
                ("values = [1]", "values = [1, 7]"),
                ("values = [1]", ""),
                ("values = [1]", "values = [1.0]"),
                ('"disc"', '"bar"'),
                ('"disc"', '"Disc"'),
                ("color = ", "color = "),
                ("[[class]]", "[class]"),
                ("ignore = [", "ignore = [0, "),
                ("ignore = [", "ignore = [255, 77, "),
                ("name = ", "name = 3 #"),
                ("color = [", "color = [1, "),
            ]
        )
        path.write_text(content.replace(old, new, random.choice([1, -1])))
    return True


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what it is in, and its key there."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        found += spots(inner)
    return found


def loaded(data: Set, random: Random) -> tuple[Path, Any] | None:
    path = pick(random, [p for p in data.texts if p.suffix == ".json"])
    if path is None:
        return None
    try:
        return path, json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # nested too deep by a change before
        return None


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def json_value(data: Set, random: Random, kind: str) -> bool:
    found = loaded(data, random)
    if found is None:
        return False
    path, value = found
    places = spots(value)
    if not places:
        return False
    shallow = [place for place in places if isinstance(place[0], dict)]
    where, key = random.choice(shallow if shallow and random.random() < 0.6 else places)
    if kind == "missing":
        del where[key]
    elif kind == "deep":
        where[key] = nested(random.choice([30, 70, 400, 900]))
    elif kind == "number":
        numbers = [(w, k) for w, k in places if isinstance(w[k], int | float) and not isinstance(w[k], bool)]
        if not numbers:
            return False
        where, key = random.choice(numbers)
        where[key] = random.choice([-1, 0, 1, 2, where[key] + 1, where[key] - 1, 1e9, 1e308, 10**40, where[key] + 0.5])
    else:
        odd = [None, True, False, "", "a", "1", "\ud800", "a\0b", "x" * 5000, [], {}, [[]], [1], [None], {"a": 1}]
        odd += [float("nan"), float("inf"), -1, 0, 1, 1.5, 10**30, 10**400, "../../x", "/etc", "."]
        where[key] = random.choice(odd)
    path.write_text(json.dumps(value))
    return True


def shapes(data: Set, random: Random, kind: str) -> bool:
    """Damage that keeps the form of an instances file or of labelme's."""
    found = loaded(data, random)
    if found is None or not isinstance(found[1], dict):
        return False
    path, value = found
    things = value.get("annotations", value.get("shapes"))
    if not isinstance(things, list) or not things or not all(isinstance(thing, dict) for thing in things):
        return False
    thing = random.choice(things)
    coco = "annotations" in value
    points = thing.get("segmentation" if coco else "points")
    if kind == "polygon":
        if not isinstance(points, list) or not points:
            return False
        flat_points = points[0] if coco else points
        if not isinstance(flat_points, list) or len(flat_points) < 6:
            return False
        how = random.choice(["two", "one", "far", "cross", "half", "none", "odd", "outside"])
        unit = 2 if coco else 1
        if how in ("two", "one", "none"):
            del flat_points[unit * {"two": 2, "one": 1, "none": 0}[how] :]
        elif how == "odd":
            del flat_points[-1]
        else:
            numbers = np.array(flat_points, dtype=float).reshape(-1, 2)
            if how == "cross":
                numbers = numbers[np.random.default_rng(random.randrange(99)).permutation(len(numbers))] + 0.25
            else:
                numbers = (
                    numbers * {"far": 1e5, "half": 0.37, "outside": 1}[how]
                    + {"far": 0.1, "half": 0.01, "outside": 200}[how]
                )
            flat_points[:] = numbers.ravel().tolist() if coco else numbers.tolist()
    elif kind == "runs":
        masks = [t["segmentation"] for t in things if coco and isinstance(t.get("segmentation"), dict)]
        if not masks:
            return False
        mask = random.choice(masks)
        if random.random() < 0.5 and isinstance(mask.get("counts"), str) and mask["counts"]:
            counts = mask["counts"]
            at = random.randrange(len(counts))
            mask["counts"] = counts[:at] + random.choice(["", "0", "o", "\x00", "é", "P"]) + counts[at + 1 :]
        else:
            height, width = mask["size"] if isinstance(mask.get("size"), list) and len(mask["size"]) == 2 else (40, 56)
            whole = height * width if isinstance(height, int) and isinstance(width, int) else 2240
            mask["counts"] = random.choice(
                [[whole], [whole - 1], [0, whole], [0, whole + 1], [3, 9, whole - 12], [-1, whole + 1]]
            )
    elif kind == "ids":
        if not coco or not isinstance(value.get("images"), list) or not value["images"]:
            return False
        images, categories = value["images"], value.get("categories") or [{}]
        how = random.randrange(7)
        if how == 0:
            images.append(dict(images[0]))
        elif how == 1:
            images.append({**images[0], "id": 77})
        elif how == 2:
            categories.append(dict(categories[0]))
        elif how == 3:
            thing["category_id"] = random.choice([0, 9, -1, "1"])
        elif how == 4:
            thing["image_id"] = random.choice([0, 99, -1, "1"])
        elif how == 5:
            thing["iscrowd"] = random.choice([1, "0", "1", None, [], 2, False])
        else:
            categories.reverse()
    else:
        entries = value.get("images", [value])
        entry = random.choice(entries) if isinstance(entries, list) and entries else None
        if not isinstance(entry, dict):
            return False
        names = ("height", "width") if coco else ("imageHeight", "imageWidth")
        one, other = entry.get(names[0]), entry.get(names[1])
        entry[names[0]] = random.choice([other, 0, -40, 41, 39, 10**9, 40.0])
        entry[names[1]] = random.choice([other, one, 0, 57])
    path.write_text(json.dumps(value))
    return True


def xml_value(data: Set, random: Random, kind: str) -> bool:
    """Another attribute, element or text in an XML file."""
    path = pick(random, [p for p in data.texts if p.suffix == ".xml"])
    if path is None:
        return False
    content = path.read_text(errors="replace")
    if kind == "attribute":
        found = list(re.finditer(r'([\w_]+)="([^"]*)"', content))
        odd = ["", "-1", "0", "1", "3.5", "1e9", "nan", "inf", "9" * 400, "disc", "bar", "background", "a,b;c", "../x"]
        odd += ["1,1;2,2", "1,1;2,2;3,3;4", "0,0;9,0;9,9;0,9", " 5 ", "0x10", "1_000"]
        new = random.choice(['{0}="' + random.choice(odd) + '"', ""])
    else:
        found = list(re.finditer(r"</?(\w+)[^>]*>", content))
        new = random.choice(["", "{0}{0}", "<tag/>", "<points label='disc' points='1,1'/>", "<!-- -->", "<!DOCTYPE a>"])
    if not found:
        return False
    match = random.choice(found)
    path.write_text(content[: match.start()] + new.replace("{0}", match[1]) + content[match.end() :])
    return True
