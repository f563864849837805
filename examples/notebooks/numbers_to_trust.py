# %% [markdown]
# # Numbers to trust
#
# Twenty images of one film are not twenty images. A figure needs to know what is independent, and says so.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import dilated
from dilated.data.labels import save_classes

DATA = Path(os.environ.get("DILATED_NUCLEI", "../nuclei"))

# %% [markdown]
# ## An interval belongs to a figure
# The bundled network `cells` on 13 images that come with the source.

# %%
result = dilated.evaluate("cells", DATA, split="val", device="cpu")
print(result)

# %% [markdown]
# ## The same pixels, cut into frames
# Each image is now a "film" of four frames, its quarters. Nothing was learned by cutting them: the figure is the same,
# and so should be the interval. Frames that are counted as independent make it narrower than it is.

# %%
frames = Path(tempfile.mkdtemp()) / "frames"
data = dilated.open_dataset(DATA)
for sample in data.samples("val"):
    image, label = sample.read()
    rows, columns = (slice(None, n // 2) for n in label.shape), (slice(n // 2, None) for n in label.shape)
    (top, left), (bottom, right) = rows, columns
    for number, window in enumerate([(top, left), (top, right), (bottom, left), (bottom, right)]):
        for kind, values in (("images", image), ("labels", label)):
            path = frames / kind / "val" / f"{sample.name}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(values[window])).save(path)
save_classes(data.classes, frames / "classes.toml")

# %%
by_frame = dilated.evaluate("cells", dilated.open_dataset(frames, group_by=r"(\w+)$"), split="val", device="cpu")
by_film = by_frame.with_groups(dilated.open_dataset(frames, group_by=r"(\w+)_\d$").groups("val"))
for name, value in (("frames as if independent", by_frame), ("films", by_film)):
    interval = value.interval("mean_iou")
    print(f"{name:26} {value.format_metric('mean_iou')}   width {interval.high - interval.low:.3f}")

# %% [markdown]
# ## Which of two is better?
# Only a paired interval that leaves out 0, and three trainings of each, say so; two single networks never do.

# %%
print(dilated.compare("cells", "cells", DATA, device="cpu"))
