# %% [markdown]
# # The paper in images
#
# Yu and Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions" (ICLR 2016): what a dilated convolution sees,
# how the view grows, and what the context module is made of.

# %%
import numpy as np
import torch
from PIL import Image
from torch import nn

import dilated


def show(values, size=300):
    """An array of 0 to 1, enlarged."""
    image = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    return image.resize((size, size), Image.Resampling.NEAREST)


# %% [markdown]
# ## Figure 1: the same nine weights, farther apart
# Three 3x3 layers with dilations 1, 2 and 4: after each, the pixels that one output depends on, and how often it uses
# them. The field is 3, 7, 15: it doubles, and no pixel inside is left out.

# %%
layers = []
panels = []
for dilation in (1, 2, 4):
    layer = nn.Conv2d(1, 1, 3, padding=dilation, dilation=dilation, bias=False)
    nn.init.ones_(layer.weight)
    layers.append(layer)
    impulse = torch.zeros(1, 1, 17, 17, requires_grad=True)
    nn.Sequential(*layers)(impulse)[0, 0, 8, 8].backward()
    panels.append((impulse.grad[0, 0] / impulse.grad.max()).numpy())
    print("dilation", dilation, "sees", int((panels[-1] > 0).any(0).sum()), "pixels across")
show(np.hstack([np.pad(panel, 1, constant_values=0.5) for panel in panels])).resize((900, 300))

# %% [markdown]
# With the same dilation in each layer it is another matter: there are holes that no layer fills.

# %%
layers = [nn.Conv2d(1, 1, 3, padding=4, dilation=4, bias=False) for _ in range(2)]
for layer in layers:
    nn.init.ones_(layer.weight)
impulse = torch.zeros(1, 1, 17, 17, requires_grad=True)
nn.Sequential(*layers)(impulse)[0, 0, 8, 8].backward()
show((impulse.grad[0, 0] / impulse.grad.max()).numpy())

# %% [markdown]
# ## Table 1: the context module
# Its fields are 3, 5, 9, 17, 33, 65, 67 and 67; `basic` has C channels throughout.

# %%
for row in dilated.receptive_field(dilated.ContextModule(channels=21)):
    print(f"{row.name:12} kernel {row.kernel}  dilation {row.dilation:2}  field {row.field:2}")

# %% [markdown]
# ## Section 4: the front end
# VGG-16 without its last two poolings. Each removed stride turns into dilation in all layers after it; a logit comes
# from 380 pixels across, and there is one for every 8. (On `meta`: 134 million weights are named, not made.)

# %%
with torch.device("meta"):
    front_end = dilated.paper.VGGFrontEnd(21)
convolutions = [module for module in front_end.modules() if isinstance(module, nn.Conv2d)]
print("dilations:", [module.dilation[0] for module in convolutions])

# %% [markdown]
# ## What matters within the field
# What is reached is arithmetic; what matters is measured: gradients of one output of the bundled network `street`.

# %%
segmenter = dilated.load("street").eval()
field = dilated.effective_field(segmenter.logits, torch.rand(1, 3, 192, 192), reduce="max").numpy()
show(np.sqrt(field / field.max()))
