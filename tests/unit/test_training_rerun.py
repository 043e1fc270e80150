"""Records that are run again: the same history, and what is told where it is another."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hybridbench.errors import ConfigurationError, DataError
from hybridbench.measurement.records import RecordStore
from hybridbench.training import rerun, study
from hybridbench.training.config import TrialConfig
from hybridbench.training.trial import run_trial

BASINS = TrialConfig("basins", optimizer="nadam", steps=20, every=5, seeds=(1, 4), **study.size_of("basins"))
LOST = replace(BASINS, optimizer="momentum", learning_rate=1e300, knobs=(("momentum", 0.5),), phase="tuning")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    store = RecordStore("optimizers", tmp_path_factory.mktemp("records"))
    for config in (BASINS, LOST):
        store.write(config, run_trial(config))
    return store.read()


def test_a_record_holds_its_configuration(table):
    assert {rerun.config_of(rows) for _, rows in table.groupby("record")} == {BASINS, LOST}
    with pytest.raises(DataError, match="2 records"):
        rerun.config_of(table)
    with pytest.raises(DataError, match="changed"):
        rerun.config_of(table[table["optimizer"] == "nadam"].assign(learning_rate=0.5))


def test_run_again_histories_are_the_same(table):
    found = rerun.rerun(table, 2)
    assert (found["difference"] == 0).all()
    assert set(found["optimizer"]) == {"nadam", "momentum"}
    assert len(rerun.rerun(table, 1)) == 1


def test_a_changed_history_is_found(table):
    changed = table.assign(val_loss=table["val_loss"] + np.where(table["step"] == 10, 1e-5, 0))
    assert rerun.rerun(changed, 2).set_index("optimizer")["difference"]["nadam"] == pytest.approx(1e-5)
    lost = table.assign(train_loss=table["train_loss"].where(table["step"] != 20))
    assert rerun.rerun(lost, 2).set_index("optimizer")["difference"]["nadam"] == np.inf
    with pytest.raises(DataError, match="other seeds or steps"):
        rerun.difference(table.iloc[:3], pd.DataFrame(run_trial(BASINS)))


@pytest.mark.parametrize("n", [0, 3])
def test_more_records_than_there_are(table, n):
    with pytest.raises(ConfigurationError, match=f"{n} records are to be run again, and there are 2: give 1 to 2"):
        rerun.rerun(table, n)
