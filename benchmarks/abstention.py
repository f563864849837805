"""How often the promise of `--risk` is kept on units that its threshold was not fitted on: 200 random halves.

    python benchmarks/abstention.py cells NUCLEI --cache nuclei.npz
    python benchmarks/abstention.py street CAMVID --cache camvid.npz

The network runs once on the split, cross-fitted as `dilated tune` does; what the splits need is kept in the cache, with
which a second call takes seconds. Each split fits a threshold on one half of the units (images, groups, or blocks of a
film) and counts the other half. "refused" are splits whose half had no threshold: they make no promise. A line says how
many of the others kept it, and what share of the pixels was left unknown. Exit status 1 if a promise is kept in less
than 93% of the splits that make one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dilated import open_dataset, tune
from dilated.evaluation.abstention import ConfidenceCounts, fit_threshold, simulate_splits

_LEAST_KEPT = 0.93


def load_counts(network: str, data: Path, cache: Path | None) -> ConfidenceCounts:
    """Read the counts of a former call, or make them."""
    if cache is not None and cache.exists():
        with np.load(cache) as arrays:
            return ConfidenceCounts(arrays["pixels"], arrays["wrong"])
    tuned = tune(network, open_dataset(data))
    print(tuned)
    if cache is not None:
        np.savez_compressed(cache, pixels=tuned.counts.pixels, wrong=tuned.counts.wrong)
    return tuned.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--risks", type=float, nargs="+", default=[0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
    options = parser.parse_args()
    counts = load_counts(options.network, options.data, options.cache)
    failed = False
    pixels, wrong = counts.pixels.sum(), counts.wrong.sum()
    print(f"{len(counts.pixels)} units, {pixels:,} pixels, {wrong / pixels:.2%} wrong")
    for risk in options.risks:
        threshold = fit_threshold(counts, risk)
        fitted = "no threshold" if threshold is None else f"{threshold.unknown:.1%} unknown on all"
        check = simulate_splits(counts, risk, options.splits)
        made = check.splits - check.refused
        if not made:
            print(f"risk {risk:g}: {fitted}; refused in all {check.splits} halves")
            continue
        failed |= check.kept_share < _LEAST_KEPT
        print(
            f"risk {risk:g}: {fitted}; kept in {check.kept} of {made} halves ({check.kept_share:.1%}), "
            f"{check.refused} refused; {check.unknown:.1%} unknown, {check.risk:.2%} of the labelled wrong"
        )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
