"""One trial: an optimizer's setting on a problem, run once per seed, whole runs in one graph."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hybridbench.errors import ConfigurationError
from hybridbench.stack import import_tensorflow
from hybridbench.training.config import TrialConfig
from hybridbench.training.optimizers import OPTIMIZERS
from hybridbench.training.problems import MEASURES, Problem, build

tf = import_tensorflow()

#: Significant digits of the losses of single steps.
DIGITS = 5
#: Phases of thousands of runs keep the rows of the quarters of a run only.
COARSE, QUARTERS = ("tuning", "rates"), 4
#: Spall's decay of the steps and of the perturbation, and the share of a run after which the steps start to shrink
#: (J. C. Spall, Johns Hopkins APL Technical Digest 19, 482 (1998)).
SPSA_STEP_DECAY, SPSA_PERTURBATION_DECAY, SPSA_STABILITY = 0.602, 0.101, 0.1


class Stepper:
    """Steps of one optimizer on one problem, to be traced; rate and knobs are variables, so that one graph serves all.

    Args:
        problem: what is trained.
        name: of `OPTIMIZERS`.
        steps: length of a run, for schedules.

    Raises:
        ConfigurationError: natural gradients of a model without a circuit.
    """

    def __init__(self, problem: Problem, name: str, steps: int) -> None:
        self.about = OPTIMIZERS[name]
        if self.about.gradient == "natural" and problem.natural is None:
            raise ConfigurationError(f"Optimizer {name!r} needs a circuit, and this model has none.")
        self.problem, self.steps = problem, steps
        self.knobs = {knob.name: tf.Variable(knob.default, dtype=tf.float64, trainable=False) for knob in self.about.knobs}
        own = self.knobs if self.about.gradient == "backprop" else {}
        self.optimizer = self.about.make(1.0)
        for knob, variable in own.items():
            setattr(self.optimizer, knob, variable)
        self.optimizer.build(problem.variables)
        self._state = [variable.numpy() for variable in self.optimizer.variables]
        self.seed = tf.Variable(0, dtype=tf.int64, trainable=False)

    def reset(self, learning_rate: float, knobs: Mapping[str, float], seed: int) -> None:
        """Set the optimizer's state to its start, and its settings."""
        for variable, value in zip(self.optimizer.variables, self._state, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = learning_rate
        for knob in self.about.knobs:
            self.knobs[knob.name].assign(knobs.get(knob.name, knob.default))
        self.seed.assign(seed)

    def step(self, rows: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """One step; returns the loss of its batch before it ("spsa": the mean of the two losses that it takes).

        Args:
            rows: of the training part.
            number: how many steps were taken before.
        """
        make = {"backprop": self._by_backprop, "natural": self._natural, "spsa": self._by_spsa}[self.about.gradient]
        loss, gradients = make(rows, number)
        self.optimizer.apply_gradients(zip(gradients, self.problem.variables, strict=True))
        return loss

    def _by_backprop(self, rows: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = self.problem.loss(rows)
        return loss, tape.gradient(loss, self.problem.variables)

    def _natural(self, rows: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        loss, gradients = self._by_backprop(rows, number)
        return loss, self.problem.natural(gradients, rows, self.knobs["damping"].value())

    def _by_spsa(self, rows: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Both signs of one random direction; the decay of the step length is part of the estimate."""
        counted = tf.cast(number, tf.float64)
        size = self.knobs["perturbation"] * tf.pow(counted + 1, -SPSA_PERTURBATION_DECAY)
        stability = SPSA_STABILITY * self.steps
        decay = tf.pow((counted + 1 + stability) / (1 + stability), -SPSA_STEP_DECAY)
        variables = self.problem.variables
        seed = tf.stack([self.seed, tf.cast(number, tf.int64)])
        drawn = tf.random.stateless_uniform((self.problem.n_parameters,), seed, 0, 2, tf.int64)
        parts = tf.split(2 * tf.cast(drawn, tf.float64) - 1, [v.shape.num_elements() for v in variables])
        signs = [tf.reshape(part, v.shape) for part, v in zip(parts, variables, strict=True)]
        losses = []
        for turn in (1, -2, 1):  # forward, all the way back, and to where it was
            with tf.control_dependencies(losses):
                moved = [v.assign_add(turn * size * sign) for v, sign in zip(variables, signs, strict=True)]
            if len(losses) < 2:
                with tf.control_dependencies(moved):
                    losses.append(self.problem.loss(rows))
        slope = decay * (losses[0] - losses[1]) / (2 * size)
        with tf.control_dependencies(moved):
            return (losses[0] + losses[1]) / 2, [slope * sign for sign in signs]


@dataclass(frozen=True)
class _Traced:
    problem: Problem
    stepper: Stepper
    run: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]  #: rows (steps, batch) → losses (steps,), measures (n + 1, 6)


@lru_cache(maxsize=8)
def _traced(setting: TrialConfig) -> _Traced:
    problem = build(setting)
    stepper = Stepper(problem, setting.optimizer, setting.steps)
    every = setting.every
    parts = setting.steps // every

    @tf.function(autograph=False)
    def run(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def one(number: tf.Tensor, losses: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return number + 1, losses.write(number, stepper.step(rows[number], number))

        def part(n: tf.Tensor, losses: tf.TensorArray, found: tf.TensorArray) -> tuple[tf.Tensor, Any, Any]:
            found = found.write(n, problem.measure())
            _, losses = tf.while_loop(lambda k, _: k < (n + 1) * every, one, (n * every, losses), parallel_iterations=1)
            return n + 1, losses, found

        start = (tf.constant(0), tf.TensorArray(tf.float64, setting.steps), tf.TensorArray(tf.float64, parts + 1))
        n, losses, found = tf.while_loop(lambda n, *_: n < parts, part, start, parallel_iterations=1)
        losses = losses.stack()
        with tf.control_dependencies([losses]):
            return losses, found.write(n, problem.measure()).stack()

    rows = problem.rows(0, setting.steps)
    return _Traced(problem, stepper, run.get_concrete_function(tf.TensorSpec(rows.shape, tf.int64)))


def run_trial(config: TrialConfig) -> list[dict[str, Any]]:
    """Run a trial: all its seeds, each from its own start.

    Whole runs are one graph; it is traced once for a problem, model and optimizer, whatever rate, knobs and seeds are.

    Returns:
        Rows of every seed at every `config.every` steps (in the phases `COARSE` nearest after the quarters of the run), the
        first untrained: seed, step, the six `MEASURES` (NaN once the run diverged), n_parameters, and in phase "tuned"
        `batch_losses`: what `Stepper.step` gave for the steps since the row before, as JSON.

    Raises:
        ConfigurationError: the problem does not have the model, or the model does not fit the optimizer.
    """
    same = replace(config, learning_rate=1.0, knobs=(), phase="tuned", seeds=(0,))
    traced = _traced(same)
    parts = config.steps // config.every
    kept = (
        {-(-parts * quarter // QUARTERS) for quarter in range(QUARTERS + 1)} if config.phase in COARSE else range(parts + 1)
    )
    rows: list[dict[str, Any]] = []
    for seed in config.seeds:
        traced.problem.load(seed)
        traced.stepper.reset(config.learning_rate, dict(config.knobs), seed)
        batches = tf.constant(traced.problem.rows(seed, config.steps), tf.int64)
        losses, found = (value.numpy() for value in traced.run(batches))
        # Once a loss is no number the weights may be none either, and an accuracy of such outputs would still look like one.
        broken = np.flatnonzero(~np.isfinite(losses))
        diverged = broken[0] if broken.size else math.inf
        for n in sorted(kept):
            step = n * config.every
            given = dict(zip(MEASURES, found[n].tolist(), strict=True))
            if step > diverged or not np.isfinite(given["train_loss"]):
                given = dict.fromkeys(MEASURES, math.nan)
            since = losses[max(step - config.every, 0) : step]
            told = json.dumps([_digits(loss) for loss in since]) if config.phase == "tuned" else ""
            row = {"seed": seed, "step": step, **given, "n_parameters": traced.problem.n_parameters, "batch_losses": told}
            rows.append(row)
    return rows


def _digits(loss: float) -> float | None:
    return float(f"{loss:.{DIGITS}g}") if math.isfinite(loss) else None
