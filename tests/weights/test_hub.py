"""Networks of the Hub: published and fetched by the real client, from a stand-in server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from support.hub_server import COMMIT, Hub, serve_hub

from dilated import InputError, Segmenter, from_pretrained, load, save_pretrained
from dilated.weights.catalog import BUNDLED_FILES
from dilated.weights.hub import model_card

TOKEN = "a-token"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as served:
        yield served


def run_python(hub: Hub, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with that server as the Hub, and an empty cache."""
    served = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | served | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


PUSH = """
import dilated
print(dilated.push_to_hub(dilated.load("cells"), "owner/cells-v2", license="cc0-1.0"))
"""


def test_what_is_published_is_fetched_and_is_the_same_network(hub: Hub, tmp_path: Path) -> None:
    hub.token = TOKEN
    pushed = run_python(hub, tmp_path, "-c", PUSH, HF_TOKEN=TOKEN)
    assert pushed.stdout.strip() == f"hf://owner/cells-v2@{COMMIT}", pushed.stderr
    assert {name for _, _, name in hub.files} == {"README.md", "config.json", "model.safetensors"}
    fetch = "import dilated; s = dilated.from_pretrained('owner/cells-v2', 'main'); print(s.digest())"
    fetched = run_python(hub, tmp_path, "-c", fetch)
    assert fetched.stdout.strip() == load("cells").digest(), fetched.stderr
    hub.files.clear()
    again = run_python(hub, tmp_path, "-m", "dilated", "info", f"hf://owner/cells-v2@{COMMIT}")
    assert (again.returncode, "nucleus" in again.stdout) == (0, True), "a commit that was fetched is not fetched again"


def test_publishing_by_a_wrong_token_is_refused_with_words(hub: Hub, tmp_path: Path) -> None:
    hub.token = TOKEN
    refused = run_python(hub, tmp_path, "-c", PUSH, HF_TOKEN="another")
    last = refused.stderr.strip().splitlines()[-1]
    assert "InputError: owner/cells-v2: the Hub did not take it" in refused.stderr
    assert "hf auth login" in last
    assert not hub.files


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://owner/none", "no such repository"),
        ("hf://owner/street@v9", "no revision 'v9'"),
        ("hf://owner/other", "no model.safetensors"),
        ("hf://owner/foreign", "not a complete safetensors file"),
        ("hf://owner", "not an address of the Hub"),
        ("hf://owner/a/b", "not an address of the Hub"),
    ],
)
def test_what_cannot_be_fetched_is_one_error(hub: Hub, tmp_path: Path, address: str, words: str) -> None:
    street = (BUNDLED_FILES / "street.safetensors").read_bytes()
    hub.files["owner/street", "main", "model.safetensors"] = street
    hub.files["owner/other", "main", "pytorch_model.bin"] = b"a pickle, which is never read"
    hub.files["owner/foreign", "main", "model.safetensors"] = street[:1000]
    result = run_python(hub, tmp_path, "-m", "dilated", "info", address)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_in_the_layout_of_the_hub_loads(tmp_path: Path) -> None:
    cells = load("cells")
    save_pretrained(cells, tmp_path / "cells", license="cc0-1.0")
    assert isinstance(cells, Segmenter)
    assert load(tmp_path / "cells").digest() == from_pretrained(tmp_path / "cells").digest() == cells.digest()
    config = json.loads((tmp_path / "cells" / "config.json").read_text())
    assert config["classes"] == list(cells.classes)
    with pytest.raises(InputError, match="no revisions"):
        from_pretrained(tmp_path / "cells", revision="main")


def test_full_precision_is_kept_where_asked_for(tmp_path: Path) -> None:
    cells = load("cells")
    weight = next(p for p in cells.parameters() if p.ndim == 4)
    with torch.no_grad():
        weight += 1e-6
    save_pretrained(cells, tmp_path, half=False)
    assert load(tmp_path).digest() == cells.digest()


def test_the_card_is_the_hubs_and_states_figures_with_their_intervals() -> None:
    street = load("street")
    text = model_card(street, "owner/street", license="cc-by-nc-4.0")
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-nc-4.0", "dilated", "image-segmentation")
    assert {r.metric_type: round(r.metric_value, 4) for r in data.eval_results}["mean_iou"] == 0.7825
    assert "Mean IoU 0.782 [" in text
    for name in street.classes:
        assert f"| {name} |" in text


def test_a_card_without_a_license_states_none() -> None:
    assert ModelCard(model_card(load("cells"), "cells")).data.license is None


def test_names_that_markdown_would_read_stay_text() -> None:
    cells = load("cells")
    cells.classes = ("back|ground\n# Title", "<script>")
    cells.card = {"data": "a [link](http://x)\x1b[31m", "val": "no table"}
    text = model_card(cells, "owner/`x`")
    assert "\\<script\\>" in text
    assert "back\\|ground \\# Title" in text
    assert "[link]" not in text
    assert "\x1b" not in text
    assert text.count("\n# ") == 1
