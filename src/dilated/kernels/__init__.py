"""Fast exact dilated convolution; every kernel has a reference in plain PyTorch."""
