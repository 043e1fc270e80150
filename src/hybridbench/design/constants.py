"""Constants that what runs, what concludes and what draws have to agree on."""

BYTES_PER_AMPLITUDE = {"complex64": 8, "complex128": 16}

#: The original study's workload: wires, parameter sets of a step, and steps; and what it was to be run with.
STUDY_QUBITS, STUDY_BATCH, STUDY_STEPS = 8, 100, 100
STUDY_OPTIMIZERS = ("adam", "rmsprop", "nadam", "adagrad")
STUDY_RATES = (0.001, 0.01, 0.1, 0.5)

#: Circuits that the compiled layer leaves to PennyLane: W with one thing more that the engine does not do.
FALL_BACKS = ("noise", "mid-circuit measurement", "shots", "branch")

#: The costs of the frontier: an average of <Z> of each wire, and the probability of all zeros; and its depths, in layers.
COSTS = ("local", "global")
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
