import pytest
from workflow_toys import profile, toy

from hybridbench.errors import ConfigurationError
from hybridbench.workflow import profiles


@pytest.fixture
def folders(tmp_path):
    toy(tmp_path / "notebooks", "00_first", "print(1)")
    toy(tmp_path / "notebooks", "01_second", "print(1)")
    return tmp_path / "profiles", tmp_path / "notebooks"


def test_a_profile_covers_every_notebook_in_order(folders):
    profile(folders[0], "quick", "01_second:\n  n_qubits: 6\n")
    assert profiles.load("quick", *folders) == {"00_first": {}, "01_second": {"n_qubits": 6}}


def test_exponents_are_numbers(folders):
    profile(folders[0], "quick", "00_first:\n  learning_rate: 1e-3\n")
    assert profiles.load("quick", *folders)["00_first"] == {"learning_rate": 0.001}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("00_frist:\n  n_qubits: 4\n", "Did you mean '00_first'"),
        ("00_first:\n  n_qbits: 4\n", "Did you mean 'n_qubits'"),
        ("00_first:\n  n_qubits: four\n", "n_qubits: 'four' has type str; allowed is int from 2 to 8"),
        ("00_first:\n  n_qubits: 40\n", "n_qubits: 40 is out of range; allowed is int from 2 to 8"),
        ("00_first:\n  n_qubits: 4\n  n_qubits: 5\n", "line 3: 'n_qubits' is given twice"),
        ("00_first:\n  n_qubits: [4\n  shuffle: true\n", "line 3"),
        ("00_first: 4\n", "'parameter: value' lines"),
        ("- 00_first\n", "holds a list"),
        ("00_first:\n\tn_qubits: 4\n", "line 2"),
        ("00_first: 2026-13-45\n", "month must be in 1..12"),
        ("? [a, b]\n: 1\n", "is no name"),
        ("00_first:\n  learning_rate: 1" + 400 * "0" + "\n", "is out of range"),
    ],
)
def test_a_broken_profile_is_refused_with_the_place(folders, text, words):
    profile(folders[0], "quick", text)
    with pytest.raises(ConfigurationError, match=words.replace("[", r"\[")):
        profiles.load("quick", *folders)


def test_a_profile_that_is_not_text_is_refused(folders):
    profile(folders[0], "quick", "")
    (folders[0] / "quick.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        profiles.load("quick", *folders)


def test_the_printed_defaults_are_a_profile(folders):
    profile(folders[0], "quick", profiles.defaults_text(folders[1]))
    expected = {"n_qubits": 4, "learning_rate": 0.1, "optimizers": ["adam", "sgd"], "shuffle": True}
    assert profiles.load("quick", *folders) == {"00_first": expected, "01_second": expected}


def test_an_unknown_profile_is_refused_with_the_nearest_name(folders):
    profile(folders[0], "quick", "")
    with pytest.raises(ConfigurationError, match=r"Unknown profile 'quik'\. Did you mean 'quick'"):
        profiles.load("quik", *folders)


def test_options_go_on_top_of_the_profile(folders):
    profile(folders[0], "quick", "00_first:\n  n_qubits: 6\n")
    values = profiles.load("quick", *folders)
    changed = profiles.override(values, ["00_first.optimizers=[sgd]", "01_second.shuffle=false"], folders[1])
    assert changed == {"00_first": {"n_qubits": 6, "optimizers": ["sgd"]}, "01_second": {"shuffle": False}}
    assert values["01_second"] == {}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("n_qubits=4", "not of the form"),
        ("00_first.n_qubits", "not of the form"),
        ("00_fist.n_qubits=4", "Did you mean '00_first'"),
        ("00_first.n_qubits=4.5", "has type float"),
        ("00_first.optimizers=[sgd", "line 1"),
    ],
)
def test_a_broken_option_is_refused(folders, option, words):
    profile(folders[0], "quick", "")
    with pytest.raises(ConfigurationError, match=words):
        profiles.override(profiles.load("quick", *folders), [option], folders[1])
