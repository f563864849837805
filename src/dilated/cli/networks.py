"""`dilated networks`: the networks that come with the package."""

from __future__ import annotations

from dilated.cli.console import make_table, write_line, write_table
from dilated.models.network_file import read_description
from dilated.weights.catalog import BUNDLED_NETWORKS, find_network


def run() -> None:
    """List the bundled networks: what each is for, the licence of its data, its size and its mean IoU on val."""
    rows = []
    for name, purpose in BUNDLED_NETWORKS.items():
        network = read_description(find_network(name))
        mean_iou = (network.card.get("val") or {}).get("mean_iou")
        rows.append(
            (
                name,
                purpose,
                len(network.classes),
                f"{sum(network.parameters_by_part().values()) / 1e6:.1f} M",
                f"{network.file_bytes / 1e6:.1f} MB",
                "-" if mean_iou is None else f"{mean_iou:.4f}",
                network.card.get("data_licence", "-"),
            )
        )
    columns = ("name", "for", "classes", "parameters", "file", "val mean IoU", "licence of the data")
    write_table(make_table(columns, rows, left=(0, 1, 6)))
    write_line("The weights are licensed as the package is (Apache-2.0); `dilated info NAME` tells more.")
