"""Children that say who they are and then sleep; timing and worker processes import this module."""

import os
import time
from dataclasses import dataclass
from pathlib import Path


def sleeping(pids):
    """An arm whose first call does not end."""

    def call():
        Path(pids).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(60)

    return call


@dataclass(frozen=True)
class Slow:
    pids: str


def run(config):
    return sleeping(config.pids)()
