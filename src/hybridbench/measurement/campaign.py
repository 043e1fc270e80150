"""Campaigns: measure the configurations that have no record yet, in order, within a time limit, and go on where one stopped.

The rules are the same for every study. A configuration with a record is passed over. Every record is written whole as soon
as it is there, so that an interruption (Ctrl-C, an error, a power cut) costs one configuration. One that fails, or takes far
longer than expected, is noted with its reason, and the others follow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pandas as pd

from hybridbench.measurement.child import TimeLimitReached
from hybridbench.measurement.evidence import TimingError
from hybridbench.measurement.records import RecordStore
from hybridbench.progress import Position, Report, ignore

Config = TypeVar("Config")  #: a frozen dataclass with a `title`
#: Rows of a record, and the driver's proof of its GPU arms.
Measured = tuple[list[dict[str, Any]], Mapping[str, Any] | None]

#: The pace of a machine starts at 1, with the weight of so many seconds: a few short configurations do not decide it.
PRIOR_SECONDS = 30.0
#: A configuration may take so many times what is expected, and so many seconds more, before it is stopped.
SLOWEST_PACE, GRACE_SECONDS = 8.0, 90.0
#: So many failures in a row end a campaign: what is missing is missing for the rest too.
MOST_FAILURES = 3


@dataclass(frozen=True)
class Attempt:
    """One configuration that is being measured: how long it may take, and how it reports."""

    limit: float  #: seconds after which it is to be ended; infinite where there is no limit
    report: Callable[[float, str], None]  #: call it with the share that is done and a few words


@dataclass
class Outcome(Generic[Config]):
    """What a campaign did."""

    wanted: Sequence[Config]
    store: RecordStore
    done: list[Config] = field(default_factory=list)  #: measured now
    failed: list[tuple[Config, str]] = field(default_factory=list)  #: with the reason
    left: list[tuple[Config, str]] = field(default_factory=list)  #: for another run, with the reason

    def table(self) -> pd.DataFrame:
        """The records that are there, of this run and of earlier ones."""
        have = [config for config in self.wanted if self.store.has(config)]
        return self.store.read(have) if have else pd.DataFrame()

    def complete(self) -> pd.DataFrame:
        """All records.

        Raises:
            TimingError: one is missing; says why.
        """
        if missing := [*self.failed, *self.left]:
            why = f"No record of {missing[0][0].title}: {missing[0][1].rstrip('.')}. {len(missing)} of {len(self.wanted)}"
            raise TimingError(f"{why} records are missing; the others stay, and the same command goes on from there.")
        return self.store.read(self.wanted)


@dataclass
class Campaign(Generic[Config]):
    """Measures the configurations that have no record.

    `measure` returns the rows and the proof of a configuration. It raises TimingError where that fails, and TimeLimitReached
    where the limit of the attempt is reached; any other error ends the campaign.
    """

    configs: Sequence[Config]
    store: RecordStore
    measure: Callable[[Config, Attempt], Measured]
    expected: Callable[[Config], float] | None = None  #: about how many seconds one takes on the usual machine
    seconds: float = math.inf  #: time limit: what is not expected to fit into the rest is left for another run
    report: Report = ignore  #: called before each configuration, and whenever one reports
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._outcome = Outcome(self.configs, self.store)
        self._missing = self.store.missing(self.configs)
        self._expected = [self.expected(config) for config in self._missing] if self.expected else []
        self._taken = self._known = PRIOR_SECONDS  #: what was measured so far took, and was expected to take
        self._end = self.clock() + self.seconds

    def run(self) -> Outcome[Config]:
        """Measure what is missing, as far as the time goes.

        Where nothing fits into the time, the first configuration that might is tried all the same: a wrong estimate must
        not keep it from ever being measured. Where records cannot be written, nothing is measured.
        """
        outcome, failures, tried = self._outcome, 0, False
        if self._missing:
            outcome.store.folder.mkdir(parents=True, exist_ok=True)
        for index, config in enumerate(self._missing):
            if failures == MOST_FAILURES:
                outcome.left.append((config, f"{MOST_FAILURES} in a row failed before it"))
            elif not self._fits(index):
                outcome.left.append((config, "it did not fit into the time left"))
            else:
                tried, known = True, len(outcome.failed)
                self._try(index)
                failures = failures + 1 if len(outcome.failed) > known else 0
        might = [index for index in range(len(self._missing)) if self._fits(index, SLOWEST_PACE)]
        if might and not tried:
            outcome.left.pop(might[0])
            self._try(might[0])
        return outcome

    def _fits(self, index: int, factor: float = 1.0) -> bool:
        left = self._end - self.clock()
        return left > 0 and (not self._expected or self._taken / self._known * self._expected[index] <= factor * left)

    def _try(self, index: int) -> None:
        """Measure one configuration and write its record, or note why there is none."""
        config, outcome = self._missing[index], self._outcome
        expected = self._expected[index] if self._expected else math.inf
        begin = self.clock()
        limit = min(SLOWEST_PACE * expected + GRACE_SECONDS, self._end - begin)

        def report(share: float, what: str = "") -> None:
            title = f"{config.title}, {what}" if what else config.title
            seconds = None
            if self._expected:
                gone, now = share * expected, self.clock()
                pace = (self._taken + now - begin) / (self._known + gone)
                seconds = min(pace * (sum(self._expected[index:]) - gone), self._end - now)
            self.report(Position(index, len(self._missing), title, seconds))

        report(0.0)
        try:
            rows, proof = self.measure(config, Attempt(limit, report))
            outcome.store.write(config, rows, proof)
            outcome.done.append(config)
        except TimeLimitReached as late:
            outcome.left.append((config, str(late)))
        except TimingError as error:
            outcome.failed.append((config, str(error)))
            return
        if self._expected:
            self._taken += self.clock() - begin
            self._known += expected
