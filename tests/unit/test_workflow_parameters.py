import pytest
from hypothesis import given
from hypothesis import strategies as st
from workflow_toys import PARAMETERS, toy

from hybridbench.errors import ConfigurationError
from hybridbench.workflow import parameters


@pytest.fixture
def folder(tmp_path):
    toy(tmp_path, "02_toy", "print(1)")
    return tmp_path


def test_schema_reads_type_default_help_and_allowed(folder):
    found = parameters.schema("02_toy", folder)
    assert list(found) == ["n_qubits", "learning_rate", "optimizers", "shuffle"]
    qubits = found["n_qubits"]
    assert (qubits.type, qubits.default, qubits.help, qubits.low, qubits.high) == ("int", 4, "wires", 2, 8)
    assert found["optimizers"].choices == ("adam", "sgd", "nadam")
    assert found["shuffle"].allowed == "any bool"


def test_a_line_may_span_lines_and_a_range_may_be_open():
    found = parameters.parse("sizes: list[int] = [\n    1,\n    2,\n]  # batch sizes [allowed: 1..]\n", "toy")
    assert found["sizes"].default == [1, 2]
    assert found["sizes"].allowed == "list[int] with elements of at least 1"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("n_qubits", 9, ["9", "out of range", "from 2 to 8"]),
        ("n_qubits", True, ["bool", "int from 2 to 8"]),
        ("n_qubits", 4.0, ["float", "int from 2 to 8"]),
        ("n_qubits", "4", ["str", "int from 2 to 8"]),
        ("learning_rate", 0, ["out of range", "0.0001"]),
        ("learning_rate", float("nan"), ["nan", "out of range"]),
        ("learning_rate", "1e-3", ["str", "float"]),
        ("optimizers", "adam", ["str", "list[str]"]),
        ("optimizers", ["adam", "adm"], ["'adm'", "adam, sgd, nadam"]),
        ("optimizers", [], ["is empty", "list[str]"]),
        ("optimizers", [1], ["int", "list[str]"]),
        ("shuffle", 1, ["int", "any bool"]),
        ("shuffle", None, ["NoneType", "any bool"]),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_name(folder, name, value, words):
    with pytest.raises(ConfigurationError) as caught:
        parameters.check("02_toy", {name: value}, folder)
    for word in ["02_toy", name, "allowed", *words]:
        assert word in str(caught.value)


def test_an_unknown_parameter_is_refused_with_the_nearest_name(folder):
    with pytest.raises(ConfigurationError, match=r"02_toy 'n_qubit'.*Did you mean 'n_qubits'"):
        parameters.check("02_toy", {"n_qubit": 4}, folder)


def test_an_unknown_notebook_is_refused_with_the_nearest_name(folder):
    with pytest.raises(ConfigurationError, match="Did you mean '02_toy'"):
        parameters.schema("02_toys", folder)


def test_an_integer_becomes_a_float_where_a_float_is_declared(folder):
    value = parameters.check("02_toy", {"learning_rate": 1}, folder)["learning_rate"]
    assert isinstance(value, float)
    assert value == 1.0


@given(st.integers())
def test_a_range_is_inclusive_and_holds_for_every_integer(value):
    parameter = parameters.parse(PARAMETERS, "toy")["n_qubits"]
    if 2 <= value <= 8:
        assert parameter.check(value, "toy") == value
    else:
        with pytest.raises(ConfigurationError):
            parameter.check(value, "toy")


@given(st.lists(st.floats(0.001, 1.0)))
def test_a_default_that_is_printed_is_read_back(values):
    assert parameters.parse(f"rates: list[float] = {values!r}  # r [allowed: 0.001..1]", "toy")["rates"].default == values


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("n = 4", "name: type = value"),
        ("print(4)", "name: type = value"),
        ("n: int", "name: type = value"),
        ("n: int = 2 * 2", "not a literal"),
        ("n: int = other", "not a literal"),
        ("n: complex = 4", "type 'complex'"),
        ("n: int = 'four'", "has type str"),
        ("n: int = 4  # wires [allowed: 5..8]", "out of range"),
        ("n: int = 4  # wires [allowed: four]", "neither a range"),
        ("n: str = 'a'  # wires [allowed: 1..2]", "range needs numbers"),
        ("n: bool = True  # wires [allowed: True|False]", "choices need names"),
        ("n: int = 4\nn: int = 5", "declared twice"),
        ("n: int = (", "not Python"),
    ],
)
def test_a_parameters_cell_that_is_no_schema_is_refused(line, words):
    with pytest.raises(ConfigurationError, match=words):
        parameters.parse(line, "toy")


def test_a_notebook_needs_one_parameters_cell(tmp_path):
    file = toy(tmp_path, "00_toy", "print(1)")
    file.write_text(file.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(ConfigurationError, match="has 0 cells tagged 'parameters'"):
        parameters.schema("00_toy", tmp_path)
    file.write_text("{")
    with pytest.raises(ConfigurationError, match="not a readable notebook"):
        parameters.schema("00_toy", tmp_path)


def test_validate_says_whether_the_defaults_are_in_force(folder, capsys):
    values = parameters.defaults("02_toy", folder)
    parameters.validate("02_toy", {**values, "other": 1}, folder)
    assert capsys.readouterr().out == "Profile: notebook defaults (quick)\n"
    parameters.validate("02_toy", {**values, "n_qubits": 6, "shuffle": False}, folder)
    assert capsys.readouterr().out == "Profile: other than the defaults: n_qubits = 6, shuffle = False\n"
    with pytest.raises(ConfigurationError, match="out of range"):
        parameters.validate("02_toy", {**values, "n_qubits": 16}, folder)
    del values["shuffle"]
    with pytest.raises(ConfigurationError, match="shuffle: not set"):
        parameters.validate("02_toy", values, folder)


def test_the_machine_line_is_one_line():
    line = parameters.machine_line()
    assert line.startswith("Machine: ")
    assert "\n" not in line
