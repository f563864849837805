"""What benchmarks/study_films.py measured: arms with paired differences over films, costs and verdicts, as Markdown.

    python benchmarks/study_films_table.py runs/films.json --levels 4

Differences are those of `dilated study`: pooled over all frames, the interval over the films that were left out, with
the variance between the trainings of both sides added.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from frozen_arms import Counts, unpack
from torch.utils.flop_counter import FlopCounterMode

from dilated.data.groups import Groups
from dilated.evaluation.intervals import Interval
from dilated.evaluation.metrics import compute_metrics
from dilated.evaluation.result import EvaluationResult
from dilated.evaluation.study import ArmResult, StudyResult, StudySettings
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.training.study_arms import Arm, find_arm


def seeds_of(record: dict[str, Any], name: str) -> list[str]:
    """The seeds of an arm that are done with every film left out."""
    done = [set(film["arms"].get(name, {})) for film in record["films"].values()]
    return sorted(set.intersection(*done))


def read_counts(record: dict[str, Any], name: str, seed: str) -> list[Counts]:
    """The counts of an arm and a seed, (P, 3 C) for each film."""
    return [unpack(film["arms"][name][seed]["counts"]) for film in record["films"].values()]


def parent_of(name: str) -> str:
    """The arm whose networks a CRF refines; empty for an arm that is trained."""
    return find_arm(name.removesuffix("rnn")).parent if name.endswith("-crfrnn") else find_arm(name).parent


def make_result(record: dict[str, Any], names: list[str], every: int) -> StudyResult:
    """The arms as `dilated study` has them, on one of so many frames of each film."""
    films = list(record["films"].values())
    frames = [film["names"][::every] for film in films]
    labels = tuple(film["film"] for film, part in zip(films, frames, strict=True) for _ in part)
    groups = Groups(labels, (None,) * len(labels), "file names")
    flat = tuple(name for part in frames for name in part)
    classes = tuple(films[0]["classes"])
    nothing = np.zeros((len(classes), len(classes)), np.int64)  # the counts by image are all that is asked for
    arms = []
    for name in names:
        runs = []
        for seed in seeds_of(record, name):
            entry = films[0]["arms"][name][seed]
            step = every // entry.get("every", 1)
            counts = np.concatenate([part[::step] for part in read_counts(record, name, seed)])
            result = EvaluationResult(classes, flat, tuple(range(len(flat))), len(flat), nothing, counts)
            runs.append(result.with_groups(groups))
        arms.append(ArmResult(name, find_arm(name).description, tuple(runs)))
    steps = min(film["steps"] for film in films)
    settings = StudySettings("CamVid", "trained first", True, steps, record["settings"]["seeds"], len(films), None)
    return StudyResult(settings, tuple(arms))


def build_network(record: dict[str, Any], arm: Arm) -> Segmenter:
    """The network of an arm, with random weights."""
    settings, films = record["settings"], record["films"]
    table = {key: settings[key] for key in ("backbone", "levels", "features")}
    config = SegmenterConfig(**(table | arm.network))
    return cast(Segmenter, config.build(next(iter(films.values()))["classes"]))


def describe_cost(record: dict[str, Any], name: str) -> list[str]:
    """Parameters behind the backbone, multiply-accumulates of an image of 360x480, ms of a step, MB while training."""
    network = build_network(record, find_arm(name)).eval()
    behind = sum(value.numel() for key, value in network.named_parameters() if not key.startswith("backbone."))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.logits(torch.zeros(1, 3, 360, 480))
    runs = [run for film in record["films"].values() for run in film["arms"].get(name, {}).values()]
    steps = [1000 * run["step_seconds"] for run in runs if "step_seconds" in run]
    memory = [run["train_bytes"] / 1e6 for run in runs if "train_bytes" in run]
    return [
        f"{behind:,}",
        f"{counter.get_total_flops() / 2e9:.1f}",
        f"{median(steps):.1f}" if steps else "",
        f"{median(memory):.0f}" if memory else "",
    ]


def describe_films(record: dict[str, Any], name: str, baseline: str) -> str:
    """The difference on each film, mean over seeds, in points."""
    texts = []
    for index, film in enumerate(record["films"].values()):
        values = []
        for arm in (name, baseline):
            counts = [read_counts(record, arm, seed)[index] for seed in seeds_of(record, arm)]
            metrics = [compute_metrics(rows.sum(0), len(film["classes"]))["mean_iou"][0] for rows in counts]
            values.append(100 * float(np.mean(metrics)))
        texts.append(f"{values[0] - values[1]:+.1f}")
    return " ".join(texts)


def format_points(interval: Interval) -> str:
    """An interval in points of mean IoU."""
    return f"{100 * interval.value:+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("--levels", type=int, default=0, help="which front end, by the levels of its backbone")
    options = parser.parse_args()
    record = json.loads(options.json.read_text())
    record["settings"]["levels"] = options.levels
    for film in record["films"].values():
        film |= film["fronts"][str(options.levels)]
    names = [name for name in next(iter(record["films"].values()))["arms"] if seeds_of(record, name)]
    trained = [name for name in names if not parent_of(name)]
    refined = [name for name in names if parent_of(name)]
    films = {number: film["film"] for number, film in record["films"].items()}
    print(record["settings"], record["machine"], films)
    result = make_result(record, trained, 1)
    print(result.settings.describe())
    print(f"| arm | parameters | GMAC | ms a step | MB | mean IoU | less {trained[0]}, points | by film |")
    print("| --- | ---: | ---: | ---: | ---: | --- | --- | --- |")
    for arm in result.measured:
        seeds = ", ".join(f"{run.value('mean_iou'):.4f}" for run in arm.runs)
        difference = result.differences.get(arm.name)
        row = [arm.name, *describe_cost(record, arm.name), f"{arm.mean_iou:.4f} ({seeds})"]
        row += ["", ""] if difference is None else [format_points(difference), describe_films(record, arm.name, "none")]
        print(f"| {' | '.join(row)} |")
    results = [result]
    if refined:
        every = next(iter(next(iter(record["films"].values()))["arms"][refined[0]].values()))["every"]
        parents = dict.fromkeys(map(parent_of, refined))
        results.append(make_result(record, [*parents, *refined], every))
        print(f"On one of {every} frames, refined by a dense CRF, and by a CRF-RNN that was trained behind it alone:")
        for arm in results[-1].measured:
            print(f"- {arm.name}: mean IoU {arm.mean_iou:.4f}")
    for measured in results:
        for answer in measured.answers:
            is_crf = parent_of(answer.candidate) == answer.baseline
            if measured is result or is_crf:
                verdict = "shown" if answer.is_shown else "not shown"
                print(f"- {answer.question} {format_points(answer.difference)}: {verdict}")
    for line in result.not_shown:
        print(f"- {line}")
    for number, film in record["films"].items():
        for key, reason in film["failed"].items():
            print(f"failed: film {number}, {key}: {reason}")


if __name__ == "__main__":
    main()
