"""Splits, preprocessing and what they refuse. The property that matters: no value of another part reaches the train part."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from hybridbench import tasks
from hybridbench.errors import ConfigurationError

PARTS = ("train", "val", "test")
TABLES = {name: tasks.read_table(name) for name in tasks.names()}
FEW = {name: min(3, tasks.get(name).n_columns) for name in TABLES}


def check_no_leak(prepare_table, name, seed, size, max_samples=0):
    """Replace the test part's features by noise of the given size: nothing else may change."""
    table, task = TABLES[name], tasks.get(name)
    rows = dict(zip(PARTS, tasks.split_rows(table["target"], task, seed, max_samples, FEW[name]), strict=True))
    changed = table.astype(float)
    noise = size * np.random.RandomState(1).normal(size=(len(rows["test"]), table.shape[1] - 1))
    changed.iloc[rows["test"], :-1] = noise
    before = prepare_table(table, task, FEW[name], seed, max_samples)
    after = prepare_table(changed, task, FEW[name], seed, max_samples)
    for part in ("train", "val"):
        assert np.array_equal(getattr(before, f"x_{part}"), getattr(after, f"x_{part}"))
        assert np.array_equal(getattr(before, f"y_{part}"), getattr(after, f"y_{part}"))
    assert before.explained_variance == after.explained_variance
    assert not np.array_equal(before.x_test, after.x_test)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(tasks.names()), seed=st.integers(0, 2**32 - 1), size=st.floats(0.1, 1e6))
def test_test_rows_do_not_reach_the_rest(name, seed, size):
    check_no_leak(tasks.prepare_table, name, seed, size)
    check_no_leak(tasks.prepare_table, name, seed, size, max_samples=120)


def test_the_leak_check_sees_a_leak():
    def leaky(table, task, n_features, seed, max_samples):
        features = table.drop(columns="target")
        scaled = pd.DataFrame(StandardScaler().fit_transform(features), columns=features.columns)
        angles = MinMaxScaler().fit_transform(scaled)
        prepared = tasks.prepare_table(table, task, n_features, seed, max_samples)
        train, val, test = tasks.split_rows(table["target"], task, seed, max_samples, n_features)
        for part, rows in (("train", train), ("val", val), ("test", test)):
            object.__setattr__(prepared, f"x_{part}", angles[rows])
        return prepared

    with pytest.raises(AssertionError):
        check_no_leak(leaky, "wine", seed=0, size=10.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_regression_target_is_standardised_by_the_train_part(seed):
    table, task = TABLES["diabetes"], tasks.get("diabetes")
    before = tasks.prepare_table(table, task, 3, seed)
    assert abs(before.y_train.mean()) < 1e-12
    assert abs(before.y_train.std() - 1) < 1e-12
    # The largest target of all lies in the top fifth and stays there when it grows, so the split does not change.
    changed = table.copy()
    _, _, test = tasks.split_rows(table["target"], task, seed)
    top = test[np.argmax(table["target"].to_numpy()[test])]
    changed.loc[top, "target"] += 1e5
    after = tasks.prepare_table(changed, task, 3, seed)
    assert np.array_equal(before.y_train, after.y_train)
    assert np.array_equal(before.y_val, after.y_val)
    assert after.y_test.max() > 100


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(tasks.names()), seed=st.integers(0, 2**32 - 1))
def test_every_allowed_size_gives_sound_parts(data, name, seed):
    table, task = TABLES[name], tasks.get(name)
    n_features = data.draw(st.integers(1, min(8, task.n_columns)))
    strata = 5 if task.kind == "regression" else task.n_classes
    max_samples = data.draw(st.one_of(st.just(0), st.integers(max(10 * strata, 2 * n_features), 2 * len(table))))
    prepared = tasks.prepare_table(table, task, n_features, seed, max_samples)
    total = 0
    for part in PARTS:
        x, y = getattr(prepared, f"x_{part}"), getattr(prepared, f"y_{part}")
        total += len(x)
        assert x.shape == (len(y), n_features)
        assert x.dtype == np.float64
        assert np.abs(x).max() <= np.pi / 2
        if task.kind == "classification":
            assert y.dtype == np.int64
            assert set(y) == set(range(task.n_classes))
        else:
            assert y.dtype == np.float64
    assert total == min(max_samples or len(table), len(table))
    assert abs(len(prepared.y_train) - 0.6 * total) < 1
    assert abs(len(prepared.y_val) - 0.2 * total) < 1.01
    assert np.allclose(prepared.x_train.min(axis=0), -np.pi / 2)
    assert np.allclose(prepared.x_train.max(axis=0), np.pi / 2)
    assert 0 < prepared.explained_variance <= 1 + 1e-12


@pytest.mark.parametrize("name", tasks.names())
def test_parts_share_no_row_and_keep_the_strata(name):
    table, task = TABLES[name], tasks.get(name)
    parts = tasks.split_rows(table["target"], task, seed=5)
    assert sorted(np.concatenate(parts)) == list(range(len(table)))
    target = table["target"].to_numpy()
    if task.kind == "classification":
        for label in range(task.n_classes):
            share = np.mean(target == label)
            assert all(abs(np.sum(target[rows] == label) - share * len(rows)) <= 1 for rows in parts)
    else:
        means = [target[rows].mean() for rows in parts]
        assert max(means) - min(means) < 0.2 * target.std()


def test_the_seed_decides_and_nothing_else():
    first, second, other = (tasks.prepare("wine", 4, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.x_train, second.x_train)
    assert np.array_equal(first.y_test, second.y_test)
    assert not np.array_equal(first.y_train, other.y_train)
    state = np.random.get_state()[1].copy()
    tasks.prepare("moons", 2, 0)
    assert np.array_equal(state, np.random.get_state()[1])


@pytest.mark.parametrize(
    ("n_features", "name", "allowed"),
    [(3, "moons", "1 to 2"), (65, "digits_3v5", "1 to 64"), (0, "wine", "1 to 13"), (2.0, "wine", "1 to 13")],
)
def test_n_features_out_of_range_names_task_value_and_range(n_features, name, allowed):
    with pytest.raises(ConfigurationError, match=f"n_features {n_features} .*{name!r}.*whole number from {allowed}"):
        tasks.prepare(name, n_features, seed=0)


def test_features_beyond_the_rank_are_refused():
    with pytest.raises(ConfigurationError, match="independent directions only, so give a whole number from 1 to 59"):
        tasks.prepare("digits", 62, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", None, True])
def test_bad_seed(seed):
    with pytest.raises(ConfigurationError, match=r"Seed .* whole number from 0 to 4294967295"):
        tasks.prepare("moons", 2, seed)


@pytest.mark.parametrize("max_samples", [-5, 1, 19, 50.0, True])
def test_bad_max_samples(max_samples):
    with pytest.raises(ConfigurationError, match=r"max_samples .*'moons'.*0 \(all 500 rows\).* from 20 up"):
        tasks.prepare("moons", 2, 0, max_samples)


def test_max_samples_leaves_room_for_the_features():
    with pytest.raises(ConfigurationError, match="from 40 up"):
        tasks.prepare("digits_3v5", 20, 0, max_samples=30)
    assert tasks.prepare("digits_3v5", 20, 0, max_samples=40).x_train.shape == (24, 20)
