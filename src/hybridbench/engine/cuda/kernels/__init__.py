"""The CUDA engine's kernels."""
