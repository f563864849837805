# %% [markdown]
# # Your masks to a network
#
# From a folder of images and masks to a network, and to what is still wrong with it. The data is `examples/nuclei`: 39
# microscope images to train on and 13 to validate with. Put the path of your own folder in `DATA`; `dilated check
# --help` lists the layouts that are read.

# %%
import os
from pathlib import Path

import dilated

DATA = Path(os.environ.get("DILATED_NUCLEI", "../nuclei"))
BUDGET = os.environ.get("DILATED_BUDGET", "2m")  # the more, the better: 30m is a good start
OUT = Path(os.environ.get("DILATED_OUT", "runs/notebook"))

# %% [markdown]
# ## What do I have?
# Everything that would make a training fail, or learn the wrong thing, is found first, by file.

# %%
print(dilated.check(DATA))

# %% [markdown]
# ## Train
# Without a recipe, one is planned from the data, this machine and the time. It ends in time and keeps the best network.

# %%
run = dilated.train(DATA, OUT, budget=BUDGET)
run

# %% [markdown]
# ## How good is it?
# With an interval, over what is independent. Small data says little: look at how wide it is.

# %%
result = run.evaluate()
print(result)

# %% [markdown]
# ## Look at it
# The image with the lowest IoU, labelled. The report shows all of them, worst first.

# %%
samples = dilated.open_dataset(DATA).samples("val")
worst, row = min(zip(samples, result.image_results, strict=True), key=lambda pair: pair[1].mean_iou)
print(row.name, row.mean_iou)
prediction = run.predictor()(worst.read_image())
prediction

# %%
prediction.class_fractions()
