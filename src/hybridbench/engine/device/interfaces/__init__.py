"""Results of the device as tensors of each framework, with gradients."""
