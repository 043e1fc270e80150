"""The optimizers, by name. A new one is one entry of `OPTIMIZERS` (see CONTRIBUTING)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hybridbench.errors import check_name
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
        # Keras's Adam rounds the betas to float32 before taking their powers, in float64 models too. Doing the same keeps
        # the two trajectories together: without it they part by 1e-6 in 100 steps.
        power_1, power_2 = tf.cast(beta_1, dtype), tf.cast(beta_2, dtype)

        @tf.function(jit_compile=True)
        def fused(rate: tf.Tensor, step: tf.Tensor, gradients: list[tf.Tensor], values: list[tf.Tensor]) -> tuple:
            gradient = tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)
            step = tf.cast(step, dtype)
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
        """The optimizer's state: iterations, learning rate, moments."""
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


@dataclass(frozen=True)
class Optimizer:
    """How an optimizer is made, and what it is."""

    make: Callable[[float], tf.keras.optimizers.Optimizer]  #: learning rate → a fresh Keras optimizer
    about: str  #: one line with the source


_keras = tf.keras.optimizers
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(lambda rate: _keras.SGD(rate), "plain stochastic gradient descent"),
    "momentum": Optimizer(lambda rate: _keras.SGD(rate, momentum=0.9), "heavy ball (Polyak 1964), momentum 0.9"),
    "nesterov": Optimizer(lambda rate: _keras.SGD(rate, momentum=0.9, nesterov=True), "Nesterov's momentum 0.9"),
    "rmsprop": Optimizer(lambda rate: _keras.RMSprop(rate), "Hinton's lecture 6e; Keras: rho 0.9, no bias correction"),
    "adagrad": Optimizer(lambda rate: _keras.Adagrad(rate), "Duchi et al. 2011; Keras: accumulator starts at 0.1"),
    "adam": Optimizer(lambda rate: _keras.Adam(rate), "Kingma and Ba 2015 (arXiv:1412.6980)"),
    "nadam": Optimizer(lambda rate: Nadam(rate), "Dozat 2016: Adam with Nesterov's momentum"),
    "adamw": Optimizer(lambda rate: _keras.AdamW(rate), "Loshchilov and Hutter 2019; Keras: weight decay 0.004"),
    "fused_adam": Optimizer(lambda rate: FusedAdam(rate), "Adam's formula, one compiled update for all variables"),
}


def make_optimizer(name: str, learning_rate: float) -> tf.keras.optimizers.Optimizer:
    """A fresh optimizer with the framework's defaults beside the learning rate.

    Raises:
        ConfigurationError: an unknown name; the nearest ones are named.
    """
    return OPTIMIZERS[check_name("optimizer", name, OPTIMIZERS)].make(learning_rate)
