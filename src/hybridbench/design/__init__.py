"""What all rooms agree on, without TensorFlow, PennyLane and pandas: routes, the timed workload, the look of figures."""
