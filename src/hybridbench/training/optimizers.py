"""The optimizers, by name. A new one is one entry of `OPTIMIZERS` (see CONTRIBUTING)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hybridbench.errors import ConfigurationError, check_name
from hybridbench.stack import import_tensorflow

tf = import_tensorflow()


class FusedAdam(tf.keras.optimizers.Adam):
    """Adam with Keras's own formula, applied to all variables at once by one compiled function.

    What "fused" optimizers change is the number of kernels that are launched, not the mathematics: the gradients are joined
    to one vector, and XLA compiles the update of that vector into one kernel. Trajectories equal Adam's to rounding.
    """

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Create the two moment vectors, each as long as all variables together."""
        if getattr(self, "_fused", None) is not None:
            return
        tf.keras.optimizers.Optimizer.build(self, var_list)  # not Adam's own, which would make moments for each variable
        sizes = [int(tf.size(variable)) for variable in var_list]
        shapes = [variable.shape for variable in var_list]
        dtype = var_list[0].dtype
        first, second = (tf.Variable(tf.zeros(sum(sizes), dtype), trainable=False) for _ in range(2))
        self._moments = (first, second)
        beta_1, beta_2, epsilon = self.beta_1, self.beta_2, self.epsilon

        @tf.function(jit_compile=True)
        def fused(rate: tf.Tensor, step: tf.Tensor, gradients: list[tf.Tensor], values: list[tf.Tensor]) -> tuple:
            gradient = tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)
            step = tf.cast(step, dtype)
            # Keras's Adam rounds betas that are plain numbers to float32 before taking their powers, in float64 models too.
            # Doing the same keeps the two trajectories together: without it they part by 1e-6 in 100 steps.
            power_1, power_2 = tf.cast(beta_1, dtype), tf.cast(beta_2, dtype)
            # Kingma and Ba (arXiv:1412.6980), section 2, last paragraph: both bias corrections folded into the rate.
            corrected = tf.cast(rate, dtype) * tf.sqrt(1 - power_2**step) / (1 - power_1**step)
            m = first + (gradient - first) * (1 - beta_1)
            v = second + (tf.square(gradient) - second) * (1 - beta_2)
            change = corrected * m / (tf.sqrt(v) + epsilon)
            parts = tf.split(change, sizes)
            return m, v, [value - tf.reshape(part, shape) for value, part, shape in zip(values, parts, shapes, strict=True)]

        self._fused = fused

    @property
    def variables(self) -> list[tf.Variable]:
        """The optimizer's state: iterations and moments (Keras counts the learning rate among the settings)."""
        own = list(self._moments) if getattr(self, "_fused", None) is not None else []
        return [*super().variables, *own]

    def apply_gradients(self, grads_and_vars: Any, name: str | None = None, **kwargs: Any) -> tf.Variable:
        """Update all variables from their gradients in one compiled call."""
        gradients, variables = zip(*grads_and_vars, strict=True)
        with tf.init_scope():
            self.build(list(variables))
        step = self.iterations + 1
        m, v, values = self._fused(self.learning_rate, step, list(gradients), [variable.value() for variable in variables])
        self._moments[0].assign(m)
        self._moments[1].assign(v)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return self.iterations.assign_add(1)


class Nadam(tf.keras.optimizers.Nadam):
    """Keras's NAdam with its momentum product advanced once per step in graph mode too.

    Keras counts in Python how often it advanced the product. A traced step keeps the count of the tracing, so from the
    second step on every further variable would advance the product again; eager steps are right.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Update one variable; the first one of a step advances the product, the others use it."""
        first = self._index_dict[self._var_key(variable)] == 0
        self._u_product_counter = -1 if first else self.iterations + 2
        super().update_step(gradient, variable)

    @property
    def variables(self) -> list[tf.Variable]:
        """The optimizer's state, the momentum product included."""
        own = [self._u_product] if getattr(self, "_u_product", None) is not None else []
        return [*super().variables, *own]


class CorrectedRMSprop(tf.keras.optimizers.RMSprop):
    """RMSprop whose mean of squares is divided by 1 - rho^t, as Adam's is: without it the first steps are too long."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Update one variable."""
        dtype = variable.dtype
        rho, step = tf.cast(self.rho, dtype), tf.cast(self.iterations + 1, dtype)
        velocity = self._velocities[self._index_dict[self._var_key(variable)]]
        velocity.assign(rho * velocity + (1 - rho) * tf.square(gradient))
        corrected = velocity / (1 - tf.pow(rho, step))
        variable.assign_sub(tf.cast(self.learning_rate, dtype) * gradient * tf.math.rsqrt(corrected + self.epsilon))


class TorchRMSprop(tf.keras.optimizers.RMSprop):
    """RMSprop as PyTorch 2 has it: epsilon is added after the root, not under it (torch.optim.RMSprop)."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Update one variable."""
        rho = tf.cast(self.rho, variable.dtype)
        velocity = self._velocities[self._index_dict[self._var_key(variable)]]
        velocity.assign(rho * velocity + (1 - rho) * tf.square(gradient))
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * gradient / (tf.sqrt(velocity) + self.epsilon))


class TorchAdagrad(tf.keras.optimizers.Adagrad):
    """Adagrad as PyTorch 2 has it: epsilon is added after the root, and the sum of squares starts at 0."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Update one variable."""
        total = self._accumulators[self._index_dict[self._var_key(variable)]]
        total.assign_add(tf.square(gradient))
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * gradient / (tf.sqrt(total) + self.epsilon))


@dataclass(frozen=True)
class Knob:
    """A setting of an optimizer beside the learning rate, and where tuning looks for it.

    Attributes:
        name: argument of the optimizer's class.
        default: the framework's.
        low: end of the range, searched evenly in the logarithm.
        high: the other end.
        from_one: the range is that of 1 - value: for decay rates, which differ in their distance from 1.
    """

    name: str
    default: float
    low: float
    high: float
    from_one: bool = False

    def at(self, share: float) -> float:
        """The value at `share` (0 to 1) of the range."""
        value = self.low * (self.high / self.low) ** share
        return 1 - value if self.from_one else value


@dataclass(frozen=True)
class Optimizer:
    """How an optimizer is made, and what it is.

    Attributes:
        make: learning rate and knobs → a fresh Keras optimizer.
        about: one line with the source.
        default_rate: the framework's learning rate: Keras's, or PyTorch's or PennyLane's where `about` names them.
        knobs: what is tuned besides it.
        gradient: what the update is fed: "backprop"; "natural" (the gradient times the inverse of the circuit's metric
            tensor) or "spsa" (an estimate from two values of the loss), which the loop has to make.
    """

    make: Callable[..., tf.keras.optimizers.Optimizer]
    about: str
    default_rate: float
    knobs: tuple[Knob, ...] = ()
    gradient: str = "backprop"


_keras = tf.keras.optimizers
_MOMENTUM = Knob("momentum", 0.9, 0.005, 0.5, from_one=True)
_RHO = Knob("rho", 0.9, 0.001, 0.5, from_one=True)
_BETAS = (Knob("beta_1", 0.9, 0.02, 0.5, from_one=True), Knob("beta_2", 0.999, 0.0005, 0.1, from_one=True))


def _momentum(rate: float, momentum: float = 0.9) -> tf.keras.optimizers.Optimizer:
    return _keras.SGD(rate, momentum=momentum)


def _nesterov(rate: float, momentum: float = 0.9) -> tf.keras.optimizers.Optimizer:
    return _keras.SGD(rate, momentum=momentum, nesterov=True)


def _torch_rmsprop(rate: float, rho: float = 0.99) -> tf.keras.optimizers.Optimizer:
    return TorchRMSprop(rate, rho=rho, epsilon=1e-8)


def _torch_adagrad(rate: float) -> tf.keras.optimizers.Optimizer:
    return TorchAdagrad(rate, initial_accumulator_value=0.0, epsilon=1e-10)


def _amsgrad(rate: float, **betas: float) -> tf.keras.optimizers.Optimizer:
    return _keras.Adam(rate, amsgrad=True, **betas)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(_keras.SGD, "plain stochastic gradient descent", 0.01),
    "momentum": Optimizer(_momentum, "heavy ball (Polyak 1964), momentum 0.9", 0.01, (_MOMENTUM,)),
    "nesterov": Optimizer(_nesterov, "Nesterov's momentum 0.9", 0.01, (_MOMENTUM,)),
    "rmsprop": Optimizer(_keras.RMSprop, "Hinton's lecture 6e; Keras: rho 0.9, no bias correction", 0.001, (_RHO,)),
    "rmsprop_corrected": Optimizer(CorrectedRMSprop, "RMSprop with Adam's bias correction, rho 0.9", 0.001, (_RHO,)),
    "rmsprop_torch": Optimizer(
        _torch_rmsprop,
        "RMSprop with PyTorch's defaults: rho 0.99, epsilon after the root",
        0.01,
        (Knob("rho", 0.99, 0.001, 0.5, from_one=True),),
    ),
    "adagrad": Optimizer(_keras.Adagrad, "Duchi et al. 2011; Keras: accumulator starts at 0.1", 0.001),
    "adagrad_torch": Optimizer(_torch_adagrad, "Adagrad with PyTorch's defaults: accumulator starts at 0", 0.01),
    "adam": Optimizer(_keras.Adam, "Kingma and Ba 2015 (arXiv:1412.6980)", 0.001, _BETAS),
    "fused_adam": Optimizer(FusedAdam, "Adam's formula, one compiled update for all variables", 0.001, _BETAS),
    "nadam": Optimizer(Nadam, "Dozat 2016: Adam with Nesterov's momentum", 0.001, _BETAS),
    "adamw": Optimizer(
        _keras.AdamW,
        "Loshchilov and Hutter 2019; Keras: weight decay 0.004",
        0.001,
        (*_BETAS, Knob("weight_decay", 0.004, 1e-5, 0.1)),
    ),
    "amsgrad": Optimizer(_amsgrad, "Reddi, Kale, Kumar 2018: Adam with a growing denominator", 0.001, _BETAS),
    "qng": Optimizer(
        _keras.SGD,
        "quantum natural gradient (Stokes et al. 2020; PennyLane's rate), damped; classical layers by gradient descent",
        0.01,
        # PennyLane has 0 and takes the pseudo-inverse: directions that leave the state as it is make the metric singular.
        (Knob("damping", 0.01, 1e-4, 1.0),),
        gradient="natural",
    ),
    "spsa": Optimizer(
        _keras.SGD,
        "simultaneous perturbation (Spall 1998; PennyLane's gains): two values of the loss a step, however many weights",
        0.05,
        (Knob("perturbation", 0.2, 0.01, 0.5),),
        gradient="spsa",
    ),
}


def keras_optimizers() -> list[str]:
    """Names of the optimizers for which a gradient is enough, so that any Keras loop can run them."""
    return [name for name, optimizer in OPTIMIZERS.items() if optimizer.gradient == "backprop"]


def check_keras_optimizer(name: str) -> str:
    """Return `name` if a gradient is enough for that optimizer.

    Raises:
        ConfigurationError: an unknown name (the nearest ones are named), or one that needs more than a gradient.
    """
    if OPTIMIZERS[check_name("optimizer", name, OPTIMIZERS)].gradient != "backprop":
        raise ConfigurationError(
            f"Optimizer {name!r} takes more than a gradient, so that no Keras loop can run it: use run_trial of "
            f"hybridbench.training.trial, or one of {', '.join(keras_optimizers())}."
        )
    return name


def make_optimizer(name: str, learning_rate: float) -> tf.keras.optimizers.Optimizer:
    """A fresh Keras optimizer with the framework's defaults beside the learning rate.

    Raises:
        ConfigurationError: as `check_keras_optimizer`.
    """
    return OPTIMIZERS[check_keras_optimizer(name)].make(learning_rate)
