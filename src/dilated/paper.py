"""The paper's own network: its VGG-16 front end, alone and with the context module and up-sampling around it.

    import dilated
    segmenter = dilated.paper.VGGSegmenter(["sky", "road"], config=dilated.paper.VGGConfig(context="basic"))
    front_end = dilated.paper.VGGFrontEnd(21)

`dilated.published` builds the four released networks.
"""

from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.models.vgg import VGGFrontEnd

__all__ = ["VGGConfig", "VGGFrontEnd", "VGGSegmenter"]
