"""Class weights from how often the classes occur.

    >>> from dilated.training.weighting import balance
    >>> [round(w, 2) for w in balance([900, 90, 10])]
    [0.78, 2.47, 7.41]

Other forms in use are near to this one: median frequency (Eigen and Fergus 2015) is power 1 up to a factor, which a
weighted mean cancels; ENet's 1 / ln(1.02 + frequency) (Paszke et al. 2016) is about power 1 for common classes and
flattens for rare ones, which here the cap does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dilated.errors import InputError


def balance(pixels: Sequence[int], power: float = 0.5, cap: float = 10.0) -> tuple[float, ...]:
    """Weights that fall with a class's frequency, of mean 1 over the pixels and none above the cap.

    Args:
        pixels: labelled pixels by class, in the training split.
        power: weights are proportional to frequency ** -power: 0 weighs all pixels the same, 1 all classes.
        cap: the greatest weight, 1 or more; what it takes from rare classes the others get, so the mean stays 1.

    Returns:
        One weight per class, for `Loss.class_weights`. A class without pixels has no frequency and gets 1; in the
        training split it weighs nothing anyhow.

    Raises:
        InputError: a negative number of pixels, none at all, a power below 0, a cap below 1.

    Example:
        >>> balance([800, 200, 0], power=1)
        (0.625, 2.5, 1.0)
        >>> balance([800, 200, 0], power=1, cap=2)
        (0.75, 2.0, 1.0)
    """
    if not 0 <= power < math.inf or not 1 <= cap < math.inf:
        raise InputError(f"balance: found power={power} and cap={cap}; expected power of 0 or more, cap of 1 or more")
    if min(pixels, default=0) < 0 or not any(pixels):
        raise InputError(f"balance: found the pixels {list(pixels)}; expected numbers of 0 or more, not all 0")
    everything = float(sum(pixels))
    weights = [(everything / count) ** power if count else 1.0 for count in pixels]
    free = {c for c, count in enumerate(pixels) if count}
    left = everything  # the sum over pixels that the weights of the free classes are to have
    while free:
        factor = left / sum(weights[c] * pixels[c] for c in free)
        over = {c for c in free if weights[c] * factor > cap * (1 + 1e-12)}  # not where rounding alone carries it
        for c in over or free:
            weights[c] = min(weights[c] * factor, float(cap))
        left -= sum(weights[c] * pixels[c] for c in over)
        free = free - over if over else set()
    return tuple(weights)
