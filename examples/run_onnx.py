"""Label an image with a file that `dilated export` wrote; needs onnxruntime, numpy and pillow alone.

python run_onnx.py street.onnx photo.jpg labels.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(network: str, source: str, target: str) -> None:
    """Write the labels as an image with the classes' colors, and print the share of each class."""
    session = onnxruntime.InferenceSession(network)
    description = json.loads(session.get_modelmeta().custom_metadata_map["dilated"])
    image = np.asarray(Image.open(source).convert("RGB"))
    output = session.run(None, {"images": image[None]})[0][0]
    labels = output if description["output"] == "labels" else output.argmax(0)
    Image.fromarray(np.array(description["colors"], np.uint8)[labels]).save(target)
    for i, name in enumerate(description["classes"]):
        print(f"{(labels == i).mean():6.1%}  {name}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python run_onnx.py NETWORK.onnx IMAGE LABELS.png")
    main(*sys.argv[1:])
