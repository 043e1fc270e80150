"""The PennyLane device `hybridbench.qubit`."""

from hybridbench.engine.device.qubit import HybridbenchQubit

__all__ = ["HybridbenchQubit"]
