"""The names of the package: what `import dilated` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dilated

CONTRACT = [
    "Segmenter",
    "SegmenterConfig",
    "ContextModule",
    "add_context",
    "dilate",
    "published",
    "load",
    "save",
    "Predictor",
    "Prediction",
    "open_dataset",
    "Dataset",
    "Classes",
    "check",
    "convert",
    "plan",
    "train",
    "Recipe",
    "load_recipe",
    "evaluate",
    "compare",
    "export",
    "serve",
    "score",
    "ConfusionMatrix",
    "write_report",
    "receptive_field",
    "effective_field",
    "InputError",
    "Interrupted",
    "losses",
]
BESIDE_THE_CONTRACT = {
    "accelerate": "what makes a network fast, for those who need no Predictor",
    "AdapterConfig": "an argument of add_context",
    "AuditOptions": "an argument of audit",
    "audit": "where labels are probably wrong",
    "Callback": "the base class of what train calls",
    "ConvertOptions": "an argument of convert",
    "CRFRNN": "a layer for those who train in Python",
    "DenseCRF": "an argument of Predictor",
    "ExportOptions": "an argument of export",
    "MultiScale": "a wrapper for those who train in Python",
    "ScoreOptions": "an argument of score",
    "ServeOptions": "an argument of serve",
    "SplitOptions": "an argument of split",
    "study": "the paper's argument on one's own data",
    "StudyOptions": "an argument of study",
    "split": "divides data by group; `train` and `evaluate` take its lists",
    "train_folds": "train for each fold by group, with pooled figures",
    "tune": "what can be fitted to a network without training it",
    "TuneOptions": "an argument of tune",
    "Run": "what train returns, and what opens a run again",
    "TrainOptions": "an argument of train and plan",
    "from_pretrained": "loads what save_pretrained and push_to_hub wrote, by the Hub's own words",
    "push_to_hub": "publishes a network",
    "save_pretrained": "a network as a folder in the Hub's layout",
    "fields": "a namespace",
    "paper": "a namespace",
}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_all_names_the_contract_and_nothing_without_a_reason() -> None:
    assert dilated.__all__ == sorted([*CONTRACT, *BESIDE_THE_CONTRACT])
    assert dilated.__version__ in run_python("import dilated; print(dilated.__version__)")


@pytest.mark.parametrize("name", dilated.__all__)
def test_every_name_can_be_had(name: str) -> None:
    assert getattr(dilated, name) is not None
    assert name in dir(dilated)


def test_the_stub_declares_the_names_that_there_are() -> None:
    stub = Path(dilated.__file__).with_name("__init__.pyi").read_text(encoding="utf-8")
    imported = {
        alias.asname or alias.name
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {*dilated.__all__, "__version__"}


@pytest.mark.parametrize("name", ["paper.VGGFrontEnd", "paper.VGGSegmenter", "paper.VGGConfig", "fields.coverage"])
def test_a_namespace_needs_no_import_of_its_own(name: str) -> None:
    assert run_python(f"import dilated; print(dilated.{name}.__name__)") == name.rpartition(".")[2]


def test_a_function_stays_a_function_after_the_package_of_its_kind_was_imported() -> None:
    code = "import dilated.training.train, dilated.evaluation.evaluate, dilated.data.check.check, dilated.data.convert"
    verbs = "train evaluate check convert plan compare load save dilate published"
    assert run_python(f"{code}; print(*(type(getattr(dilated, n)).__name__ for n in '{verbs}'.split()))") == " ".join(
        ["function"] * 10
    )


def test_importing_the_package_imports_no_torch() -> None:
    heavy = "torch numpy PIL timm rich tyro"
    assert run_python(f"import sys, dilated; print(*(m for m in '{heavy}'.split() if m in sys.modules))") == ""


def test_an_unknown_name_is_an_attribute_error_that_lists_the_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'VGGSegmenter'; it has AdapterConfig, "):
        dilated.VGGSegmenter  # noqa: B018
