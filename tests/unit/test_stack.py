"""The stack check, TensorFlow's start and the nearest names."""

import os
import subprocess
import sys

import pytest

from hybridbench import errors, stack


def python(code, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "HYBRIDBENCH"))}
    return subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True, check=False
    )


def test_keras_3_before_the_switch_is_an_error_that_says_what_to_do():
    done = python("import tensorflow\ntensorflow.keras.layers\nimport hybridbench")
    assert done.returncode != 0
    assert "Keras 3 was used before hybridbench could switch to Keras 2" in done.stderr
    assert "TF_USE_LEGACY_KERAS=1" in done.stderr


def test_tensorflow_first_is_fine_as_long_as_keras_was_not_used():
    code = (
        "import tensorflow as tf\nimport hybridbench\n"
        "from tensorflow.keras import layers\nfrom tensorflow.keras.optimizers import Adam\n"
        "print(tf.keras.layers.Dense is layers.Dense, tf.keras.optimizers.Adam is Adam, Adam.__module__)"
    )
    assert python(code).stdout.startswith("True True tf_keras")


def test_tensorflow_first_is_fine_where_the_environment_sets_the_switch():
    assert python("import tensorflow\nimport hybridbench", TF_USE_LEGACY_KERAS="1").returncode == 0


def test_another_pennylane_is_refused(monkeypatch):
    monkeypatch.setattr(stack.metadata, "version", lambda name: "0.45.1")
    with pytest.raises(errors.StackError, match=r"PennyLane 0\.45\.1 is installed, and the suite needs 0\.41\.1"):
        stack.prepare_stack()


def test_tensorflow_starts_with_keras_2_and_without_a_word():
    done = python(
        "import hybridbench.stack as s; tf = s.import_tensorflow(); print(tf.keras.optimizers.Adam.__module__.split('.')[0])"
    )
    assert done.stdout.strip() == "tf_keras"
    assert done.stderr == ""


def test_other_words_on_standard_error_are_passed_on(capfd):
    with stack._without_start_notices():
        os.write(2, b"Could not find cuda drivers on your machine\nsomething else broke\n")
    assert capfd.readouterr().err == "something else broke\n"


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(errors.ConfigurationError, match=r"Unknown optimizer 'adm'\. Did you mean 'adam'") as raised:
        errors.check_name("optimizer", "adm", ["adam", "sgd"])
    assert "Known: adam, sgd." in str(raised.value)
    assert errors.check_name("optimizer", "sgd", ["adam", "sgd"]) == "sgd"


@pytest.mark.skipif(not stack._has_avx2(), reason="needs a processor with AVX2")
def test_linear_algebra_rounds_alike_whatever_the_processor():
    program = "import hybridbench, os; print(os.environ['OPENBLAS_CORETYPE'])"
    program += "\nfrom threadpoolctl import threadpool_info; import numpy"
    program += "\nprint(*{found['architecture'] for found in threadpool_info() if found['internal_api'] == 'openblas'})"
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == ["Haswell", "Haswell"]
