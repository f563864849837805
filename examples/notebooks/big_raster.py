# %% [markdown]
# # A big raster
#
# A tile size changes the memory that is needed, not the labels. The margin around a tile is measured on the network, so
# that what a tile gives is what the whole image would have given.

# %%
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

import dilated

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# A raster to try it on: a sample photograph, repeated. Yours may be a GeoTIFF with a billion pixels.

# %%
photo = Image.open(str(resources.files("dilated") / "samples" / "street_camvid.jpg")).convert("RGB")
raster = np.tile(np.asarray(photo), (1, 2, 1))
Image.fromarray(raster).save(folder / "raster.tif")
raster.shape

# %% [markdown]
# ## The same labels, in less memory

# %%
whole = dilated.Predictor("street", tile=None, device="cpu")(raster)
tiled = dilated.Predictor("street", tile=256, device="cpu")(raster)
print("pixels that differ:", int((whole.labels != tiled.labels).sum()), "of", whole.labels.size)

# %% [markdown]
# ## From file to file
# Windows are read, labelled and written one after the other: neither the raster nor its labels are ever in memory as a
# whole. A GeoTIFF keeps its georeference; overviews, class names and colors are in the file.

# %%
from dilated.prediction.raster_prediction import predict_raster  # noqa: E402

predictor = dilated.Predictor("street", tile=256, device="cpu")
print(predict_raster(predictor, folder / "raster.tif", folder / "labels.tif"))
written = np.asarray(Image.open(folder / "labels.tif"))
print("pixels that differ from the labels above:", int((written != tiled.labels).sum()))

# %% [markdown]
# The same on the command line: `dilated predict street raster.tif --out labels --tile 512 --save tif`. Interrupted, it
# goes on with the blocks that are missing.

# %%
Image.open(folder / "labels.quicklook.png")
