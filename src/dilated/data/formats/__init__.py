"""Layouts of data on disk, by name: each is a subclass of `Format`, which says what a layout answers.

    >>> from dilated.data.formats import FORMATS
    >>> FORMATS["voc"].fixed_classes.names[15]
    'person'

Formats that share files or rules with another say so by importing it: SBD and COCO are read as VOC's classes.
"""

from dilated.data.formats._format import Format as Format
from dilated.data.formats._sample_arrays import IgnoredPixelsError as IgnoredPixelsError
from dilated.data.formats.ade20k import ADE20K
from dilated.data.formats.ade20k_full import ADE20KFull
from dilated.data.formats.camvid import CamVid, CamVid701
from dilated.data.formats.cityscapes import KITTI, KITTI2018, Cityscapes
from dilated.data.formats.coco import COCO
from dilated.data.formats.coco_json import COCOInstances
from dilated.data.formats.coco_panoptic import COCOPanoptic
from dilated.data.formats.cvat import CVAT
from dilated.data.formats.cvat_images import CVATImages
from dilated.data.formats.datumaro import Datumaro
from dilated.data.formats.folders import ColorMasks, Folders
from dilated.data.formats.label_studio import LabelStudio
from dilated.data.formats.label_studio_brush import LabelStudioBrush
from dilated.data.formats.labelme import LabelMe
from dilated.data.formats.mapillary import Mapillary
from dilated.data.formats.supervisely import Supervisely
from dilated.data.formats.tiff_pages import TIFFPages
from dilated.data.formats.voc import SBD, VOC, VOCWithSBD
from dilated.data.formats.yolo import YOLO

FORMATS: dict[str, type[Format]] = {
    format.name: format
    for format in (
        CamVid,
        CamVid701,
        KITTI,
        KITTI2018,
        Cityscapes,
        Mapillary,
        ADE20KFull,  # before the benchmark's form, whose folders it has too
        ADE20K,
        CVAT,  # before voc, whose folders it has too
        VOCWithSBD,  # before the two that it consists of
        VOC,
        SBD,
        COCO,  # before its form with other categories
        COCOInstances,
        COCOPanoptic,
        YOLO,
        CVATImages,
        LabelStudio,  # before its masks, which it names the images of
        LabelStudioBrush,
        Supervisely,
        Datumaro,
        LabelMe,
        TIFFPages,
        ColorMasks,  # before plain folders, which it is too
        Folders,
    )
}
"""In the order in which they are tried: the first that a folder looks like is taken."""

IMPLIED_FORMATS = {
    "ade20k_full": {"ade20k"},
    "voc_sbd": {"voc", "sbd", "coco", "coco_json"},
    "coco": {"coco_json"},
    "cvat": {"voc", "voc_sbd"},
    "label_studio": {"label_studio_brush"},
    "sbd": {"coco", "coco_json"},
}
"""What a format consists of, which is then no other reading of the folder; `folders` and `colors` belong to all."""
