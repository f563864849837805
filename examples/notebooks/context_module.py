# %% [markdown]
# # Plug the context module into your network
#
# The paper's context module takes C maps and gives C maps, and starts as the identity: put on a trained network it
# changes no label, and training makes it better from there.

# %%
import torch
from torch import nn

import dilated

# %% [markdown]
# ## The module alone
# Kernels of 3x3 with dilations 1, 1, 2, 4, 8, 16, 1: the view grows exponentially, the number of weights linearly.

# %%
context = dilated.ContextModule(channels=21, sigma=0.0)
for row in dilated.receptive_field(context):
    print(f"{row.name:12} dilation {row.dilation:2}   sees {row.field} x {row.field}")

# %% [markdown]
# Fresh, it returns what it is given, as long as that is not negative:

# %%
maps = torch.rand(1, 21, 64, 64)
with torch.no_grad():
    print("largest change:", (context(maps) - maps).abs().max().item())

# %% [markdown]
# ## On a network of yours
# Any module that maps images to logits. Here a small one; torchvision's, transformers' and
# segmentation_models.pytorch's work the same way. The layer that makes the logits is found.

# %%
torch.manual_seed(0)
classes = ["sky", "road", "tree"]
yours = nn.Sequential(
    nn.Conv2d(3, 16, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 3, 1),
    nn.Upsample(scale_factor=2, mode="bilinear"),
)
segmenter = dilated.add_context(yours, classes, config=dilated.AdapterConfig(size_divisor=2)).eval()
segmenter.config.layer

# %% [markdown]
# The labels are those of the network without it:

# %%
images = torch.rand(2, 3, 96, 128)
mean, std = (torch.tensor(v).view(3, 1, 1) for v in (segmenter.config.mean, segmenter.config.std))
with torch.no_grad():
    before = yours.eval()((images - mean) / std)
    after = segmenter(images)
print("labels that differ:", (before.argmax(1) != after.argmax(1)).sum().item())

# %% [markdown]
# ## Strides into dilation
# A classifier's late strides become dilation: the same weights, answers on a grid 4 times finer, and at the old
# positions exactly the old answers.

# %%
import timm  # noqa: E402

network = timm.create_model("resnet18", features_only=True).eval()
fine = dilated.dilate(timm.create_model("resnet18", features_only=True), output_stride=8).eval()
fine.load_state_dict(network.state_dict())
image = torch.rand(1, 3, 224, 224)
with torch.no_grad():
    coarse_map, fine_map = network(image)[-1], fine(image)[-1]
print(tuple(coarse_map.shape), "->", tuple(fine_map.shape))
print("largest difference at the old positions:", (fine_map[..., ::4, ::4] - coarse_map).abs().max().item())
