import pytest

from hybridbench import paths
from hybridbench.analysis import public
from hybridbench.errors import DataError


@pytest.fixture(scope="module")
def table():
    return public.read_public()


@pytest.fixture(scope="module")
def signs(table):
    return public.public_signs(table)


def test_excitations_by_hand():
    assert public.excitations(2, 4) == (2, 1)  # H2 in a minimal basis: two singles, one double
    assert public.excitations(4, 12) == (16, 76)
    assert public.excitations(2, 20) == (18, 81)


def test_a_small_circuit_alone_loses_on_a_gpu_and_a_large_one_wins(signs):
    """Each size predicted by the model that has not seen it."""
    lightning = signs[signs["comparison"].str.startswith("lightning")]
    assert (lightning.loc[lightning["n_qubits"] <= 14, "predicted"] < 1).all()
    unbatched = signs[signs["batch"] == 1]
    assert (unbatched.loc[unbatched["n_qubits"] >= 20, "predicted"] > 1).all()


def test_a_batch_of_1000_wins_from_about_five_qubits(signs):
    batch = signs[signs["batch"] == 1000]
    assert (batch.loc[batch["n_qubits"] >= 5, "predicted"] > 1).all()
    assert batch.loc[batch["n_qubits"] == 4, "predicted"].item() == pytest.approx(1, abs=0.15)


def test_a_wrong_sign_is_a_near_tie(signs):
    wrong = signs[~signs["right"]]
    assert len(wrong) <= 1
    assert wrong["measured"].between(0.95, 1.05).all()


def test_the_size_that_is_asked_for_is_not_in_the_fit(table, monkeypatch):
    seen = []
    monkeypatch.setattr(public, "fit_public", lambda rows: seen.append(set(rows["n_qubits"])) or (lambda work: 1.0))
    batch = table[table["batch"] == 1000]
    found = public.public_signs(batch)
    sizes = set(batch["n_qubits"])
    assert [sizes - given for given in seen] == [{n} for n in sorted(sizes) for _ in range(2)]
    # A model that knows nothing says that no GPU wins.
    assert list(found.loc[~found["right"], "n_qubits"]) == [n for n in sorted(sizes) if n >= 5]


def test_the_model_can_be_wrong(table):
    """The GPU's times turned upside down: what was a win of large circuits is none, and the check says so."""
    spoiled = table.copy()
    at = (spoiled["system"] == public.YAO_GPU) & (spoiled["batch"] == 1) & (spoiled["n_qubits"] == 22)
    spoiled.loc[at, "seconds"] *= 100
    found = public.public_signs(spoiled[spoiled["batch"].eq(1) & spoiled["source"].str.startswith("yardstiq")])
    assert not found.loc[found["n_qubits"] == 22, "right"].item()


def test_the_datasheet_of_the_v100_is_within_a_factor_of_its_public_times(table):
    found = public.public_calibration(table)
    assert len(found) == 34
    assert found.min() > 0.9  # a roofline is a lower bound
    assert found.max() < 3


def test_an_unknown_workload_and_a_damaged_table_are_refused(table, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="has to name a molecule"):
        public.vqe_work("VQE of something", 4)
    data = tmp_path / "data" / "public"
    data.mkdir(parents=True)
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path / "data")
    with pytest.raises(DataError, match="is missing"):
        public.read_public()
    (tmp_path / "data" / "SHA256SUMS").write_text(f"{'0' * 64}  public/gpu_times.csv\n")
    (data / "gpu_times.csv").write_text("source\n")
    with pytest.raises(DataError):
        public.read_public()
