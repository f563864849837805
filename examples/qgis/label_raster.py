"""A Processing algorithm for QGIS: labels a raster with a network, in bounded memory, with its georeference.

Processing Toolbox, Scripts, Add Script to Toolbox: this file. It needs no package in QGIS's own Python: it runs the
command `dilated` of an environment where `pip install 'dilated[geo]'` was, whose Python is asked for.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)


class LabelRaster(QgsProcessingAlgorithm):
    """Input raster, network, pixels of a tile, and the Python that has dilated -> a GeoTIFF of ids."""

    def name(self):
        return "label_raster"

    def displayName(self):
        return "Label a raster with a network"

    def group(self):
        return "dilated"

    def groupId(self):
        return "dilated"

    def shortHelpString(self):
        return "Writes the id of a class for each pixel, with the raster's georeference and the classes' colors."

    def createInstance(self):
        return LabelRaster()

    def initAlgorithm(self, configuration=None):
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Raster, a file"))
        self.addParameter(QgsProcessingParameterString("NETWORK", "Network: bundled name, file or run", "street"))
        self.addParameter(
            QgsProcessingParameterNumber("TILE", "Pixels along a tile", defaultValue=1024, minValue=64)
        )
        self.addParameter(QgsProcessingParameterFile("PYTHON", "The Python that has dilated"))
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Labels"))

    def processAlgorithm(self, parameters, context, feedback):
        source = Path(self.parameterAsRasterLayer(parameters, "INPUT", context).source())
        if not source.is_file():
            raise QgsProcessingException(f"{source}: is no file; export the layer as a GeoTIFF first")
        output = Path(self.parameterAsOutputLayer(parameters, "OUTPUT", context))
        python = self.parameterAsString(parameters, "PYTHON", context)
        network = self.parameterAsString(parameters, "NETWORK", context)
        tile = self.parameterAsInt(parameters, "TILE", context)
        with tempfile.TemporaryDirectory(dir=output.parent) as folder:
            command = [python, "-m", "dilated", "predict", network, str(source), "--out", folder]
            command += ["--tile", str(tile), "--save", "tif"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                for line in process.stdout:
                    feedback.pushInfo(line.rstrip())
                    if feedback.isCanceled():
                        process.terminate()
            if process.returncode != 0:
                raise QgsProcessingException(f"dilated ended with status {process.returncode}; the log says why")
            shutil.move(Path(folder) / f"{source.stem}.tif", output)
        return {"OUTPUT": str(output)}
