"""Every column that a record may have: its unit and what it means.

`docs/records.md` is made from this table, and a record with another column is refused when it is written.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """The unit of a column ("1" for counts and pure numbers, "-" for text) and its meaning."""

    unit: str
    meaning: str


COLUMNS: dict[str, Column] = {
    # naming
    "record": Column("-", "name of the record: hash of its configuration"),
    "study": Column(
        "-",
        "table that the row belongs to: circuits, gradients, timing, bench, atlas, training, energy, optimizers or frontier",
    ),
    "revision": Column("1", "raised when the code changes what a record of this configuration means"),
    # configuration
    "cell": Column(
        "-",
        "name of a timing cell: which arms are compared; in bench: step, memory, first_call or a circuit that falls back; "
        "in frontier: gradient, descent or memory",
    ),
    "task": Column("-", "data set or energy problem"),
    "problem": Column("-", "data set or energy that an optimizer was tried on"),
    "phase": Column("-", "part of the optimizer study: tuning, tuned, default, control, rates or starts (docs/protocol.md)"),
    "model": Column("-", "hybrid, separable (the twin without entanglement) or classical (parameter-matched)"),
    "embedding": Column("-", "how features become a quantum state"),
    "ansatz": Column("-", "trainable part of the circuit"),
    "n_qubits": Column("1", "wires of the circuit"),
    "n_layers": Column("1", "repetitions of the ansatz"),
    "backend": Column("-", "PennyLane device that simulates the circuit"),
    "diff_method": Column("-", "how gradients are taken: backprop, adjoint or parameter-shift"),
    "optimizer": Column("-", "name in hybridbench.training.optimizers"),
    "learning_rate": Column("1", "step size given to the optimizer"),
    "knobs": Column("-", "the optimizer's other settings, JSON of names and values; the framework's default where absent"),
    "start": Column("-", "how the circuit's weights begin: uniform, normal, small or identity"),
    "batch_size": Column("1", "samples per step"),
    "epochs": Column("1", "passes over the training part"),
    "steps": Column("1", "optimizer steps of the whole run"),
    "every": Column("1", "steps from one evaluation to the next"),
    "max_samples": Column("1", "most samples of the task that are used; 0 for all"),
    "seed": Column("1", "decides split, order and initialisation"),
    "seeds": Column("-", "the seeds of a record, JSON; a row belongs to one of them"),
    "precision": Column(
        "-", "floating-point type of the model: float32 or float64; in atlas that of the states: complex64 or complex128"
    ),
    "threads": Column("1", "threads that the timed process may use"),
    "samples": Column("1", "timed repetitions of each arm"),
    "warmup": Column("1", "untimed repetitions of each arm after its first call"),
    "arms": Column("-", "the compared arms, JSON: name, factory and its arguments"),
    "processes": Column("1", "processes that each arm ran in, one after the other"),
    "budget_seconds": Column("s", "how long an arm gave samples in one process"),
    "role": Column("-", "what a cell of the atlas is for: line or fit (both fitted), held_out (the model never sees it)"),
    "repetition": Column("1", "pass over the grid of the atlas that a cell was measured in; each pass in other processes"),
    "limit_seconds": Column("s", "how long an arm had for all its samples in a cell of the atlas"),
    "n_pairs": Column("1", "random pairs of parameter sets behind an expressibility"),
    "n_points": Column("1", "random parameter points behind an average"),
    "cost": Column("-", "what a bare circuit is trained for: local or global (hybridbench.training.frontier)"),
    "shots": Column("1", "shots at each point of the parameter-shift rule whose noise a gradient carries; 0 for exact ones"),
    # timing results
    "arm": Column("-", "which of the compared ways of working"),
    "route": Column("-", "the arm without its precision: one way of doing a whole training step"),
    "part": Column("-", "'step' for the whole, else the part of a step"),
    "sample": Column("1", "index of the timed repetition; arms of one sample ran next to each other"),
    "seconds": Column("s", "wall time: one timed repetition, or the training time up to this row"),
    "first_call_seconds": Column("s", "wall time of the arm's first call: building, tracing, compiling"),
    "import_seconds": Column("s", "wall time of importing what the arm needs"),
    "process": Column("1", "index of the process; processes of the same index ran interleaved"),
    "calls": Column("1", "consecutive calls whose mean is one timed repetition"),
    "peak_memory_mib": Column("MiB", "most memory that the arm's process held at once"),
    "packages": Column("-", "JSON of the versions in the arm's own environment"),
    "gpu_utilisation_percent": Column("%", "highest utilisation of the GPU while this GPU arm ran alone; empty elsewhere"),
    "gpu_memory_mib": Column(
        "MiB",
        "memory that this process took on the GPU to build the arm and call it once; a cell's first one loads CUDA too",
    ),
    "gpu_energy_joules": Column(
        "J",
        "energy that the whole GPU, its idle draw included, took for one step of the GPU arm alone; empty where uncounted",
    ),
    "kernels": Column(
        "1", "kernels that one step of the GPU arm launched, by its engine's own count; empty where uncounted"
    ),
    "traffic_bytes": Column(
        "B",
        "memory traffic on the GPU of one step, by its engine's account; without one, all states read and written by every "
        "kernel; exact for a copy",
    ),
    "note": Column("-", "why an arm has no times; empty where it has"),
    # training results
    "step": Column("1", "optimizer steps taken before this row"),
    "epoch": Column("1", "epochs finished before this row; 0 is the untrained model"),
    "train_loss": Column("1", "loss on the training part; of an energy the gap to its optimum; NaN once a run diverged"),
    "val_loss": Column("1", "loss on the validation part; of an energy the same gap"),
    "test_loss": Column("1", "loss on the test part; an energy has none"),
    "train_score": Column(
        "1",
        "accuracy (classification) or R squared (regression) on the training part; of an energy its share of the optimum, "
        "of basins the share of angles in the global basin",
    ),
    "val_score": Column("1", "the same on the validation part"),
    "test_score": Column("1", "the same on the test part; an energy has none"),
    "batch_losses": Column("-", "loss of each step since the row before, JSON, 5 digits; phase tuned only"),
    "n_parameters": Column("1", "trainable parameters of the whole model, or of the circuit"),
    "energy": Column("1", "mean of the measured observable over the batch; the optimum is 1"),
    # circuit results
    "circuit": Column("-", "name of the examined circuit"),
    "depth": Column("1", "longest path of gates through the circuit"),
    "n_two_qubit_gates": Column("1", "entangling gates"),
    "expressibility": Column("nat", "Kullback-Leibler divergence of fidelities from Haar's; lower is more expressive"),
    "entangling_capability": Column("1", "mean Meyer-Wallach measure over random parameters, 0 to 1"),
    "n_live": Column("1", "parameters whose gradient is ever non-zero"),
    "live_share": Column("1", "n_live over all circuit parameters"),
    "max_abs_difference": Column("1", "largest absolute difference between two ways of computing the same thing"),
    "method": Column("-", "backend and differentiation method compared against default.qubit with backprop"),
    "quantity": Column("-", "what is compared: value, gradient_weights, gradient_inputs, energy_vs_cos, trajectory"),
    # frontier results
    "cost_mean": Column("1", "mean of the cost over the batch of random points"),
    "gradient_variance": Column("1/rad^2", "variance of the cost's derivative by the first RY of wire 0 over random points"),
    "gradient_fourth_moment": Column("1/rad^4", "mean fourth power of that derivative"),
    "gradient_mean_square": Column("1/rad^2", "mean square of the derivative over random points and all parameters"),
    "shot_variance": Column("1", "variance of one shot's cost (a measurement of all wires), mean over random points"),
    "rounding_error": Column("1/rad", "rms difference of the gradient to that in float64; NaN where not compared"),
    # provenance
    "machine": Column("-", "id of the machine, from the columns below"),
    "cpu": Column("-", "processor model"),
    "cores": Column("1", "logical cores that the process could use"),
    "memory_gib": Column("GiB", "physical memory"),
    "gpus": Column("-", "NVIDIA GPUs seen by the driver; empty for none"),
    "driver": Column("-", "NVIDIA driver version; empty for none"),
    "system": Column("-", "operating system, kernel, architecture"),
    "python": Column("-", "version"),
    "pennylane": Column("-", "version"),
    "pennylane_lightning": Column("-", "version; empty where it is not installed"),
    "tensorflow": Column("-", "version; empty where it is not installed"),
    "tf_keras": Column("-", "version; empty where it is not installed"),
    "numpy": Column("-", "version"),
    "scipy": Column("-", "version"),
    "pennylane_lightning_gpu": Column("-", "version; empty where it is not installed"),
    "numba_cuda": Column("-", "version; empty where it is not installed"),
    "commit": Column("-", "commit of the suite; '+changes' where the package differed from it"),
    "proof": Column("-", "JSON of what NVML saw while a cell with GPU arms was taken; empty elsewhere"),
    "created_utc": Column("-", "when the record was written, ISO 8601"),
}


def as_markdown() -> str:
    """The table as Markdown, for `docs/records.md`."""
    rows = "\n".join(f"| `{name}` | {column.unit} | {column.meaning} |" for name, column in COLUMNS.items())
    return f"| column | unit | meaning |\n|---|---|---|\n{rows}\n"
