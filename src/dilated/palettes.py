"""Names and colors of known data sets, and colors for classes that have none."""

from __future__ import annotations

import colorsys

Color = tuple[int, int, int]
"""Red, green and blue in 0..255."""

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CAMVID_COLORS: dict[str, Color] = {
    "Building": (128, 0, 0),
    "Tree": (128, 128, 0),
    "Sky": (128, 128, 128),
    "Car": (64, 0, 128),
    "Sign": (192, 128, 128),
    "Road": (128, 64, 128),
    "Pedestrian": (64, 64, 0),
    "Fence": (64, 64, 128),
    "Pole": (192, 192, 128),
    "Sidewalk": (0, 0, 192),
    "Bicyclist": (0, 128, 192),
}
"""CamVid and KITTI, in the order of the paper's Table 5."""
CITYSCAPES_COLORS: dict[str, Color] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}


def voc_color(label: int) -> Color:
    """The color of VOC's palette for a label: its bits, dealt to red, green and blue from the highest bit down.

    Example:
        >>> [voc_color(i) for i in (0, 1, 15, 20)]
        [(0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128)]
    """
    red, green, blue = (sum((label >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3))
    return red, green, blue


def distinct_colors(count: int) -> list[Color]:
    """Colors that differ as much as their number allows: hues; of more than 255, points spread over all colors.

    Example:
        >>> len(set(distinct_colors(5_000)))
        5000
    """
    if count > 255:  # steps of the golden ratio around 2**24; an odd step meets each color once
        codes = ((i + 1) * 0x9E3779 % (1 << 24) for i in range(count))
        return [(code >> 16, code >> 8 & 255, code & 255) for code in codes]
    rgb = (colorsys.hsv_to_rgb(i / count, 0.75, 0.6 + 0.35 * (i % 2)) for i in range(count))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rgb]
