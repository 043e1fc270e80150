"""Every column that a record may have: its unit, what it means and what may stand in it.

`hybridbench.measurement.schema` checks every record that is written, read or shipped against this table, and
`docs/records.md` is made from it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

#: A name of a registry: of a task, an ansatz, a device.
NAME = r"[A-Za-z0-9][A-Za-z0-9_. /-]{0,60}"
#: What people call an arm or a cell: printable ASCII, and nothing that HTML or Markdown would act on.
LABEL = r"[A-Za-z0-9][ !-;=?-_a-{}~]{0,120}"
#: A line of text for people: nothing that a terminal, HTML or Markdown would act on, no end of line, nothing invisible.
LINE = r"[^<>|`\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]{0,600}"
VERSION = r"[0-9][0-9A-Za-z.+!_-]{0,40}"
VERSION_OR_NONE = rf"({VERSION})?"
#: The id of a machine names a file: it has neither dots nor slashes.
MACHINE = r"([a-z0-9][a-z0-9-]{0,23})?-[0-9]{1,5}c-[0-9a-f]{6}"


#: Timed repetitions of an arm: an interval of more takes minutes to compute and is hardly narrower.
MOST_SAMPLES = 1000


class Column(NamedTuple):
    """What stands in a column: its unit ("1" for counts and pure numbers, "-" for text), its meaning and what is allowed."""

    unit: str
    meaning: str
    kind: Literal["text", "data", "whole", "number"]  #: text, JSON, a whole number or a finite number
    low: float | None = None  #: smallest number
    high: float | None = None  #: largest number
    above: bool = False  #: `low` itself is not allowed
    pattern: str = ""  #: of a text, a regular expression for the whole of it
    gaps: Literal["never", "note", "any"] = "never"  #: where it may be empty: never, where a note says why, anywhere

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.kind == "text":
            choices = self.pattern.split("|")
            if all(choice.isidentifier() for choice in choices):
                return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
            return WORDS.get(self.pattern, f"`{self.pattern}`")
        if self.kind == "data":
            return "JSON"
        what = "a whole number" if self.kind == "whole" else "a finite number"
        if self.low is not None:
            what += f" {'above' if self.above else 'from'} {_plain(self.low)}"
        if self.high is not None:
            what += f" {'up ' if self.low is None or self.above else ''}to {_plain(self.high)}"
        return what


def _plain(value: float) -> str:
    return f"{value:.12g}" if abs(value) < 1e9 else f"{value:.4g}"


#: The patterns that have a name, in words.
WORDS = {
    NAME: "a name: letters, digits, `_`, `.`, `/`, `-` and spaces",
    LABEL: "a line of printable ASCII",
    LINE: "a line of text",
    VERSION: "a version",
    VERSION_OR_NONE: "a version, or empty",
    MACHINE: "the id of a machine",
}


def text(meaning: str, pattern: str) -> Column:
    """A column of text that matches `pattern` from its first to its last character."""
    return Column("-", meaning, "text", pattern=pattern)


def data(meaning: str, gaps: Literal["never", "note", "any"] = "never") -> Column:
    """A column of JSON."""
    return Column("-", meaning, "data", gaps=gaps)


def whole(unit: str, meaning: str, low: int, high: int, gaps: Literal["never", "note", "any"] = "never") -> Column:
    """A column of whole numbers from `low` to `high`."""
    return Column(unit, meaning, "whole", low, high, gaps=gaps)


def number(
    unit: str,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    above: bool = False,
    gaps: Literal["never", "note", "any"] = "never",
) -> Column:
    """A column of finite numbers from `low` (or above it) to `high`."""
    return Column(unit, meaning, "number", low, high, above, gaps=gaps)


COLUMNS: dict[str, Column] = {
    # naming
    "record": text("name of the record: hash of its configuration", "[0-9a-f]{16}"),
    "study": text(
        "table that the row belongs to: circuits, gradients, timing, bench, atlas, training, energy, optimizers or frontier",
        "[a-z]{3,20}",
    ),
    "revision": whole("1", "raised when the code changes what a record of this configuration means", 1, 1000),
    # configuration
    "cell": text(
        "name of a timing cell: which arms are compared; in bench: step, memory, first_call or a circuit that falls back; "
        "in frontier: gradient, descent or memory",
        LABEL,
    ),
    "task": text("data set or energy problem", NAME),
    "problem": text("data set or energy that an optimizer was tried on", NAME),
    "phase": text(
        "part of the optimizer study: tuning, tuned, default, control, rates or starts (docs/protocol.md)",
        "tuning|tuned|default|control|rates|starts",
    ),
    "model": text(
        "hybrid, separable (the twin without entanglement) or classical (parameter-matched)", "hybrid|separable|classical"
    ),
    "embedding": text("how features become a quantum state", NAME),
    "ansatz": text("trainable part of the circuit", NAME),
    "n_qubits": whole("1", "wires of the circuit", 0, 60),
    "n_layers": whole("1", "repetitions of the ansatz", 0, 10**5),
    "backend": text("PennyLane device that simulates the circuit", NAME),
    "diff_method": text("how gradients are taken: backprop, adjoint or parameter-shift", NAME),
    "optimizer": text("name in hybridbench.training.optimizers", NAME),
    "learning_rate": number("1", "step size given to the optimizer", 0, above=True),
    "knobs": data("the optimizer's other settings, JSON of names and values; the framework's default where absent"),
    "start": text("how the circuit's weights begin: uniform, normal, small or identity", "uniform|normal|small|identity"),
    "batch_size": whole("1", "samples per step", 1, 10**8),
    "epochs": whole("1", "passes over the training part", 1, 10**5),
    "steps": whole("1", "optimizer steps of the whole run", 1, 10**6),
    "every": whole("1", "steps from one evaluation to the next", 1, 10**6),
    "max_samples": whole("1", "most samples of the task that are used; 0 for all", 0, 10**8),
    "seed": whole("1", "decides split, order and initialisation", 0, 2**32),
    "seeds": data("the seeds of a record, JSON; a row belongs to one of them"),
    "precision": text(
        "floating-point type of the model: float32 or float64; in atlas that of the states: complex64 or complex128",
        "float32|float64|complex64|complex128",
    ),
    "threads": whole("1", "threads that the timed process may use", 1, 4096),
    "samples": whole("1", "timed repetitions of each arm", 1, MOST_SAMPLES),
    "warmup": whole("1", "untimed repetitions of each arm after its first call", 0, 10**5),
    "arms": data("the compared arms, JSON: name, factory and its arguments"),
    "processes": whole("1", "processes that each arm ran in, one after the other", 1, 100),
    "budget_seconds": number("s", "how long an arm gave samples in one process", 0, 100000.0),
    "role": text(
        "what a cell of the atlas is for: line or fit (both fitted), held_out (the model never sees it)", "line|fit|held_out"
    ),
    "repetition": whole(
        "1", "pass over the grid of the atlas that a cell was measured in; each pass in other processes", 1, 1000
    ),
    "limit_seconds": number("s", "how long an arm had for all its samples in a cell of the atlas", 0, 100000.0, above=True),
    "n_pairs": whole("1", "random pairs of parameter sets behind an expressibility", 1, 10**9),
    "n_points": whole("1", "random parameter points behind an average", 1, 10**9),
    "cost": text("what a bare circuit is trained for: local or global (hybridbench.training.frontier)", "local|global"),
    "shots": whole(
        "1", "shots at each point of the parameter-shift rule whose noise a gradient carries; 0 for exact ones", 0, 10**12
    ),
    # timing results
    "arm": text("which of the compared ways of working", LABEL),
    "route": text("the arm without its precision: one way of doing a whole training step", LABEL),
    "part": text("'step' for the whole, else the part of a step", LABEL),
    "sample": whole("1", "index of the timed repetition; arms of one sample ran next to each other", 0, 10**5, gaps="note"),
    "seconds": number(
        "s", "wall time: one timed repetition, or the training time up to this row", -100000.0, 1000000.0, gaps="note"
    ),
    "first_call_seconds": number(
        "s", "wall time of the arm's first call: building, tracing, compiling", 0, 100000.0, above=True, gaps="note"
    ),
    "import_seconds": number("s", "wall time of importing what the arm needs", 0, 100000.0, gaps="note"),
    "process": whole("1", "index of the process; processes of the same index ran interleaved", 0, 1000),
    "calls": whole("1", "consecutive calls whose mean is one timed repetition", 1, 10**6, gaps="note"),
    "peak_memory_mib": number(
        "MiB", "most memory that the arm's process held at once", 0, 100000000.0, above=True, gaps="note"
    ),
    "packages": data("JSON of the versions in the arm's own environment", gaps="note"),
    "gpu_utilisation_percent": number(
        "%", "highest utilisation of the GPU while this GPU arm ran alone; empty elsewhere", 0, 100, gaps="any"
    ),
    "gpu_memory_mib": number(
        "MiB",
        "memory that this process took on the GPU to build the arm and call it once; a cell's first one loads CUDA too",
        -10000000.0,
        10000000.0,
        gaps="any",
    ),
    "gpu_energy_joules": number(
        "J",
        "energy that the whole GPU, its idle draw included, took for one step of the GPU arm alone; empty where uncounted",
        0,
        1000000000.0,
        gaps="any",
    ),
    "kernels": number(
        "1",
        "kernels that one step of the GPU arm launched, by its engine's own count; empty where uncounted",
        0,
        1000000000.0,
        gaps="any",
    ),
    "traffic_bytes": number(
        "B",
        "memory traffic on the GPU of one step, by its engine's account; without one, all states read and written by every "
        "kernel; exact for a copy",
        0,
        1e18,
        gaps="any",
    ),
    "note": text("why an arm has no times; empty where it has", LINE),
    # training results
    "step": whole("1", "optimizer steps taken before this row", 0, 10**6),
    "epoch": whole("1", "epochs finished before this row; 0 is the untrained model", 0, 10**5),
    "train_loss": number(
        "1", "loss on the training part; of an energy the gap to its optimum; NaN once a run diverged", gaps="any"
    ),
    "val_loss": number("1", "loss on the validation part; of an energy the same gap", gaps="any"),
    "test_loss": number("1", "loss on the test part; an energy has none", gaps="any"),
    "train_score": number(
        "1",
        "accuracy (classification) or R squared (regression) on the training part; of an energy its share of the optimum, "
        "of basins the share of angles in the global basin",
        None,
        1.001,
        gaps="any",
    ),
    "val_score": number("1", "the same on the validation part", None, 1.001, gaps="any"),
    "test_score": number("1", "the same on the test part; an energy has none", None, 1.001, gaps="any"),
    "batch_losses": text(
        "loss of each step since the row before, JSON, 5 digits; phase tuned only", r"(\[[-+0-9.eE, nul]*\])?"
    ),
    "n_parameters": whole("1", "trainable parameters of the whole model, or of the circuit", 0, 10**9),
    "energy": number("1", "mean of the measured observable over the batch; the optimum is 1", -1.01, 1.01),
    # circuit results
    "circuit": text("name of the examined circuit", NAME),
    "depth": whole("1", "longest path of gates through the circuit", 0, 10**6),
    "n_two_qubit_gates": whole("1", "entangling gates", 0, 10**9),
    "expressibility": number(
        "nat", "Kullback-Leibler divergence of fidelities from Haar's; lower is more expressive", -0.01, 1000.0
    ),
    "entangling_capability": number("1", "mean Meyer-Wallach measure over random parameters, 0 to 1", -0.001, 1.001),
    "n_live": whole("1", "parameters whose gradient is ever non-zero", 0, 10**9),
    "live_share": number("1", "n_live over all circuit parameters", 0, 1),
    "max_abs_difference": number(
        "1", "largest absolute difference between two ways of computing the same thing", 0, 1000.0, gaps="any"
    ),
    "method": text("backend and differentiation method compared against default.qubit with backprop", NAME),
    "quantity": text(
        "what is compared: value, gradient_weights, gradient_inputs, energy_vs_cos, trajectory",
        "value|gradient_weights|gradient_inputs|energy_vs_cos|trajectory",
    ),
    # frontier results
    "cost_mean": number("1", "mean of the cost over the batch of random points", -1.001, 1.001),
    "gradient_variance": number(
        "1/rad^2", "variance of the cost's derivative by the first RY of wire 0 over random points", 0, 1000000.0
    ),
    "gradient_fourth_moment": number("1/rad^4", "mean fourth power of that derivative", 0, 1000000000000.0),
    "gradient_mean_square": number(
        "1/rad^2", "mean square of the derivative over random points and all parameters", 0, 1000000.0
    ),
    "shot_variance": number(
        "1", "variance of one shot's cost (a measurement of all wires), mean over random points", 0, 1000000.0
    ),
    "rounding_error": number(
        "1/rad", "rms difference of the gradient to that in float64; NaN where not compared", 0, 1000000.0, gaps="any"
    ),
    # provenance
    "machine": text("id of the machine, from the columns below", MACHINE),
    "cpu": text("processor model", LINE),
    "cores": whole("1", "logical cores that the process could use", 1, 10**5),
    "memory_gib": number("GiB", "physical memory", 0, 1000000.0, above=True),
    "gpus": text("NVIDIA GPUs seen by the driver; empty for none", LINE),
    "driver": text("NVIDIA driver version; empty for none", r"[0-9.]{0,30}"),
    "system": text("operating system, kernel, architecture", LINE),
    "python": text("version", VERSION),
    "pennylane": text("version", VERSION),
    "pennylane_lightning": text("version; empty where it is not installed", VERSION_OR_NONE),
    "tensorflow": text("version; empty where it is not installed", VERSION_OR_NONE),
    "tf_keras": text("version; empty where it is not installed", VERSION_OR_NONE),
    "numpy": text("version", VERSION_OR_NONE),
    "scipy": text("version", VERSION_OR_NONE),
    "pennylane_lightning_gpu": text("version; empty where it is not installed", VERSION_OR_NONE),
    "numba_cuda": text("version; empty where it is not installed", VERSION_OR_NONE),
    "commit": text(
        "commit of the suite; '+changes' where the package differed from it", r"[0-9a-f]{12}(\+changes)?|unknown"
    ),
    "proof": data("JSON of what NVML saw while a cell with GPU arms was taken; empty elsewhere"),
    "created_utc": text("when the record was written, ISO 8601", r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\+00:00"),
    "contributed": text(
        "yes where whoever shipped the record had not taken it: another machine's, checked and not repeated", "yes"
    ),
}


def as_markdown() -> str:
    """The table as Markdown, for `docs/records.md`."""
    rows = "\n".join(
        f"| `{name}` | {column.unit} | {column.meaning} | {column.allowed.replace('|', '&#124;')} |"
        for name, column in COLUMNS.items()
    )
    return f"| column | unit | meaning | allowed |\n|---|---|---|---|\n{rows}\n"
