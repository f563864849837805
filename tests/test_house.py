"""What holds for the whole source: layers, circles, sizes, names that nothing uses, words that are not the field's."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter import cli as importlinter

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "dilated"
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 400
MANY_OPTIONS = {
    "prediction/predictor.py: __init__": "keywords only, the fields of PredictorOptions",
    "api.py: train": "keywords only; a trainer takes callbacks=[...] in every library of the field",
}
MOST_PARAMETERS = 7

UNUSED_IN_SOURCE = {
    "dilated.data.formats": "the modules of this package are one protocol, which `FORMATS` calls by name",
    "dilated.cli": "each verb's `run` is found by its name",
    "dilated.integrations": "each module is imported by who uses its tool",
    "dilated.training.losses": "functions of the documented namespace `dilated.losses`",
}
"""Packages whose public names may have no importer in the source, and why."""

WORDS = {
    r"pictures?|Pictures?": "image",
    r"scores|Scores": "logits",
    r"trunks?|Trunks?": "backbone",
    r"shares": "class_fractions",
    r"looks|Looks": "view, test-time augmentation",
    r"ModuleNetwork|VGGNetwork": "AdapterConfig, VGGConfig",
    r"colours?|Colours?": "color",
    r"upside_down|trunk_lr|bias_lr|share_out|hollow|agreed|stitches": "the field's word",
    r"sheets?|Tally|Mosaic|Undo|Whole": "the field's word",
}
"""Parts of identifiers that belong to a private vocabulary, and the word that the field has."""

KEPT = {
    "shares_memory": "numpy's name",
}
"""Identifiers that hold such a part and stay, and why."""

PRIVATE_NAMES = {
    **dict.fromkeys(("take", "taken"), "load_matching_weights"),
    **dict.fromkeys(("learn", "finish", "zoom"), "training_logits, decode, upsample"),
    **dict.fromkeys(("stitches", "two"), "is_tileable, binary_to_two_class"),
    **dict.fromkeys(("agreed", "mine", "wait", "first"), "broadcast, shard, barrier, is_rank_zero"),
    **dict.fromkeys(("as_one", "share_out", "Whole", "hollow"), "synchronized batch statistics, fully_shard"),
    **dict.fromkeys(("see", "weigh", "_signs", "speaks", "hold", "marks", "pace"), "what is checked, stored or shown"),
    **dict.fromkeys(("survey", "Survey"), "statistics"),
    **dict.fromkeys(("Ahead", "Behind"), "Prefetcher, AsyncWriter"),
    **dict.fromkeys(("Film", "Parts", "Mosaic", "Held"), "video, tile, block"),
    **dict.fromkeys(("parting", "part", "parted", "arranged", "unsplit"), "split, layout"),
    **dict.fromkeys(("Print", "Near"), "fingerprint, near-duplicate"),
    **dict.fromkeys(("alone", "unchanged", "credible", "understood"), "what the check establishes"),
    **dict.fromkeys(("Thing", "Undo"), "instance, inverse"),
    **dict.fromkeys(("guess", "redrawn", "bounded"), "estimate, resampled, clipped"),
    **dict.fromkeys(("mean_of_known", "_mean_of_known", "figures", "Tally"), "nanmean, metrics, counts"),
    **dict.fromkeys(("sheets", "looks", "made", "trust"), "pages, views, provenance, calibration"),
    **dict.fromkeys(("Watch", "Look", "Network", "VGGNetwork", "ModuleNetwork"), "monitor, view, config"),
    **dict.fromkeys(("seen_globally", "trunk_field", "theory"), "global_layers, theoretical_field"),
}
"""Names of functions, classes and attributes that belong to a private vocabulary, and what to say instead."""

KEPT_NAMES = {
    "first": "Alignment and Match: the first image of a pair, beside `second`",
    "figures": "the images beside a finding of `check`: HTML's word",
    "wait": "AsyncWriter.wait: what a queue and `concurrent.futures` call it",
}
"""Such names that stay, and why."""

VAGUE_VALUES = {"one", "found", "there", "own", "whole"}
"""Names that no value of the source has: they say nothing about it."""


def test_imports_run_downwards_only() -> None:
    assert importlinter.lint_imports(config_filename=str(ROOT / ".importlinter"), no_cache=True) == 0


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("dilated", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    lazy = graph.find_modules_directly_imported_by("dilated")  # annotations of names that are imported when first used
    imports["dilated"] = imports["dilated"] - lazy
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_no_file_is_longer_than_400_lines() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}


def test_no_function_has_more_than_7_parameters() -> None:
    long = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_triton_kernel(node):
                every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [a.arg for a in every if a.arg not in ("self", "cls")]
                place = f"{path.relative_to(SOURCE).as_posix()}: {node.name}"
                if len(names) > MOST_PARAMETERS and place not in MANY_OPTIONS:
                    long.append(f"{place} has {len(names)}")
    assert long == []


def _is_triton_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is compiled for a GPU, where each size and stride is an argument of its own."""
    return any(ast.unparse(decorator).startswith("triton.jit") for decorator in node.decorator_list)


def test_no_definition_is_dead() -> None:
    """Every module-level function and class is used by the source, by name."""
    assert [name for name, users in _definitions() if not users and not _has_reason(name)] == []


def test_a_public_name_has_an_importer_or_is_what_a_public_function_gives() -> None:
    """Everything else begins with an underscore; tests may import what they test."""
    tested = {n for path in sorted((ROOT / "tests").rglob("*.py")) for n in _imported_names(path)}
    private = []
    for name, users in _definitions():
        module, _, short = name.rpartition(".")
        own = SOURCE.parent.joinpath(*module.split(".")).with_suffix(".py")
        if users <= {own} and short not in tested | _annotated_names(own) and not _has_reason(name):
            private.append(name)
    assert private == []


def test_identifiers_use_the_words_of_the_field() -> None:
    found = defaultdict(set)
    for folder in ("src", "tests", "benchmarks", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path == Path(__file__).resolve():
                continue
            for name in set(_identifiers(path)) - KEPT.keys():
                if name.startswith("test_"):
                    continue  # a sentence, not a name
                parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
                for word in WORDS:
                    if any(re.fullmatch(word, part) for part in parts) or re.fullmatch(word, name):
                        found[name].add(path.relative_to(ROOT).as_posix())
    assert {name: sorted(paths)[:3] for name, paths in found.items()} == {}


def test_definitions_have_the_names_of_the_field() -> None:
    private = defaultdict(set)
    for path in _scripts():
        for name in set(_defined_names(path)) & PRIVATE_NAMES.keys() - KEPT_NAMES.keys():
            private[f"{name}: say {PRIVATE_NAMES[name]}"].add(path.relative_to(ROOT).as_posix())
    assert {name: sorted(paths) for name, paths in private.items()} == {}


def test_every_kept_name_is_still_there() -> None:
    """A reason for a name that has gone goes too."""
    defined = {name for path in _scripts() for name in _defined_names(path)}
    used = {
        name for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py") for name in _identifiers(path)
    }
    assert KEPT_NAMES.keys() - defined == set()
    assert KEPT.keys() - used == set()


def test_no_value_has_a_vague_name() -> None:
    vague = defaultdict(set)
    for path in _scripts():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) if name in VAGUE_VALUES:
                    vague[name].add(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert vague == {}


def test_documents_use_the_words_of_the_field() -> None:
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(SOURCE.rglob("*.md"))]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if re.search(r"\b(pictures?|colours?|trunks?|class scores)\b", line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []


def _scripts() -> Iterator[Path]:
    for folder in ("src", "benchmarks", "tools"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def _defined_names(path: Path) -> Iterator[str]:
    """The functions, classes and attributes that a file defines; local values are not among them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                match field:
                    case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                        yield name


def _identifiers(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name) | ast.arg(arg=name):
                yield name
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name


def _has_reason(name: str) -> bool:
    return any(name.startswith(f"{package}.") for package in UNUSED_IN_SOURCE)


def _imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _annotated_names(path: Path) -> set[str]:
    """The names in the annotations of a module: of parameters, results and fields."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        kinds = [getattr(node, "returns", None), getattr(node, "annotation", None)]
        for annotation in filter(None, kinds):
            found |= {n.id for n in ast.walk(annotation) if isinstance(n, ast.Name)}
        if isinstance(node, ast.ClassDef):
            found |= {n.id for base in node.bases for n in ast.walk(base) if isinstance(n, ast.Name)}
    return found


def _definitions() -> Iterator[tuple[str, set[Path]]]:
    """Public functions and classes of modules, with the files that refer to them, beyond their own definition."""
    users: dict[str, set[Path]] = defaultdict(set)
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                    users[name].add(path)
                case ast.Constant(value=str(name)) if name.isidentifier():
                    users[name].add(path)  # tables of names, as that of the lazy `__init__`
    for path in FILES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield ".".join((*path.relative_to(SOURCE.parent).with_suffix("").parts, node.name)), users[node.name]
