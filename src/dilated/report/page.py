"""The frame of all pages: one Jinja2 environment, whose templates hold all HTML, and what the words of a page mean.

    render("check.html", title="my data", subtitle="/home/me/data", report=report, ...)

Templates escape what they are given, and show control characters as text: all that comes from data, a run or a user
may hold any. Only `Markup`, made by this package, is taken as HTML.

>>> TERMS["step"]
'One update of the weights, from one batch of samples.'
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dilated.files import plural, printable, printable_lines

TERMS = {
    "IoU": (
        "Intersection over union: of the pixels that the truth or the network gives to the class, the share that both "
        "do. 1 is perfect, 0 is no overlap. Pooled over all measured images, at their own resolution."
    ),
    "mean IoU": "The mean of the IoU over the classes that occur in the truth or the predictions.",
    "95% interval": (
        "Where the figure of all data like this lies, 19 times out of 20. It is over groups of images that are "
        "independent of each other, or over blocks of one film; it does not cover training with another seed."
    ),
    "pixel accuracy": "The share of labelled pixels whose predicted class is right. Frequent classes dominate it.",
    "boundary IoU": (
        "IoU of the bands inside the outlines of truth and prediction, 2% of the image's diagonal wide. Large areas "
        "cannot hide poor outlines."
    ),
    "mean boundary IoU": "The mean of the boundary IoU over the classes that occur.",
    "precision": (
        "Of the pixels that the network gives to the class, the share that truly is of it. Pooled over all measured "
        "images."
    ),
    "recall": ("Of the pixels that are truly of the class, the share that was found. Pooled over all measured images."),
    "Dice": "Twice the overlap over the sum of both areas; the same as F1. Never below the IoU.",
    "share of pixels": "Of all labelled pixels of the measured images, the share that is truly of the class.",
    "labelled pixels": "Pixels to which the data gives a class. All others count nowhere.",
    "ignored": "The share of all pixels to which the data gives no class; they count nowhere.",
    "image's IoU": "The mean IoU of one image, over the classes that its truth or its prediction has.",
    "loss": "What training minimises, on the samples of a step; the recipe lists its terms.",
    "smoothed": "The mean over the nearest twentieth of the logged values.",
    "step": "One update of the weights, from one batch of samples.",
    "learning rate": "How far one step moves the weights; the curve shows the rate of the heads, as logged.",
    "stage": "A part of the training with settings of its own; the recipe lists them.",
    "confidence": "The greatest of a pixel's class probabilities.",
    "ECE": (
        "Expected calibration error: how far the share of right pixels is from the confidence, in 15 bins of equal "
        "width, as a mean over pixels. 0 is perfect."
    ),
    "trimap": "The pixels that are at most so many pixels away from a pixel of another true class.",
    "theoretical field": "The side of the square of pixels on which one logit can depend at all.",
    "effective field": (
        "How strongly one logit depends on each pixel: the size of its gradient. The squares hold half and 95% of it."
    ),
}


def render(template: str, **values: Any) -> str:
    """Render a page from one of the templates.

    Example:
        >>> page = render("base.html", title="<my run>", subtitle="")
        >>> "<title>&lt;my run&gt;</title>" in page
        True
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dilated.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    environment.globals.update(terms=TERMS, zip=zip)
    environment.filters["plural"] = plural
    environment.filters["lines"] = lambda text: Markup.escape(printable_lines(text))
    return environment
