import itertools
import subprocess
import sys

import matplotlib as mpl
import pytest

from hybridbench.errors import ConfigurationError
from hybridbench.report import style

#: Routes have one style for all their names, and tests of their own.
FAMILIES = sorted(set(style.STYLES) - {"route"})


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_names_of_a_family_look_alike(family):
    looks = {(s.colour, s.marker, s.dash): name for name, s in style.STYLES[family].items()}
    assert len(looks) == len(style.STYLES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_names_of_a_family_share_marker_or_label(family):
    styles = style.STYLES[family].values()
    assert len({s.marker for s in styles}) == len(styles), "told apart in black and white"
    assert len({s.label for s in styles}) == len(styles)


def test_what_the_study_names_has_a_style():
    from hybridbench.training.config import MODELS, STARTS
    from hybridbench.training.optimizers import OPTIMIZERS

    assert [name for name in style.family("optimizer") if "," not in name] == list(OPTIMIZERS)
    assert set(style.family("start")) == set(STARTS)
    assert set(style.family("model")) == set(MODELS)


def test_a_name_belongs_to_one_family():
    for one, other in itertools.combinations(style.STYLES.values(), 2):
        assert not set(one) & set(other)


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ConfigurationError, match="'nadam'"):
        style.style_of("nadamm")
    with pytest.raises(ConfigurationError, match="style family"):
        style.family("colour")
    with pytest.raises(ConfigurationError):
        style.in_order(["adam", "nope"])


def test_order_is_the_table_s():
    assert style.in_order(["adam", "sgd", "adam"]) == ["sgd", "adam"]


def test_settings_end_with_the_block():
    before = dict(mpl.rcParams)
    with style.use_style():
        assert mpl.rcParams["svg.hashsalt"] == "hybridbench"
    assert dict(mpl.rcParams) == before


def test_report_imports_neither_framework():
    code = (
        "import sys, hybridbench.report.figures, hybridbench.report.gallery, hybridbench.report.paper;"
        "assert not {'tensorflow', 'pennylane', 'tf_keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
