"""OpenVINO's files, an .xml with the graph and a .bin with the weights, from the content of an ONNX file."""

from __future__ import annotations

from pathlib import Path

from dilated.models.runtimes import METADATA_KEY, missing_extra


def write_openvino(content: bytes, path: Path, half: bool = False) -> None:
    """Write a graph and its weights; the description of the ONNX file is kept.

    Args:
        content: of an ONNX file that `to_onnx` made.
        path: of the .xml; the .bin lies beside it.
        half: store weights in float16; what they are used in is computed as the runtime chooses, float32 on a CPU.

    Raises:
        InputError: OpenVINO is not installed.
    """
    import onnx

    try:
        import openvino
    except ImportError as error:
        raise missing_extra("export to openvino", "openvino", "openvino") from error
    source = path.with_suffix(".onnx")
    source.write_bytes(content)
    try:
        model = openvino.convert_model(str(source))
        properties = {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
        model.set_rt_info(properties[METADATA_KEY], [METADATA_KEY])
        openvino.save_model(model, str(path), compress_to_fp16=half)
    finally:
        source.unlink()
