"""The catalogue of routes: one label, one look and one meaning for everything that is timed."""

import subprocess
import sys
from collections import Counter

import pytest

from hybridbench.design.routes import ROUTES, WORK, atlas_route, is_route, route_of
from hybridbench.errors import ConfigurationError
from hybridbench.measurement import timing
from hybridbench.training import atlas, bench, gpu, steps

SIZE = (4, 1, 8)
METHODS = ["default.qubit/backprop", "default.qubit/adjoint", "default.qubit/parameter-shift", "lightning.qubit/adjoint"]


@pytest.fixture(scope="module", autouse=True)
def cores():
    with pytest.MonkeyPatch.context() as patch:
        for module in (timing, gpu):
            patch.setattr(module, "available_cores", lambda: 16)
        yield


def cells():
    """Cells that compare routes, each of which is shown in one figure or table."""
    found = [cell for part in gpu.PARTS for cell in gpu.part(part).cells]
    found += [steps.methods_cell(*SIZE, METHODS), steps.parts_cell(*SIZE, METHODS[::3]), steps.batching_cell(*SIZE)]
    found += [steps.compile_cell(*SIZE, ["eager", "graph", "xla"]), steps.precision_cell(*SIZE)]
    found += [steps.rungs_cell(*SIZE, list(steps.RUNGS)), steps.original_cells()[0], *steps.frontier_cells(4, 1)]
    return found


def compared():
    arms = {f"{cell.cell}, {cell.title}": [arm.name for arm in cell.arms] for cell in cells()}
    arms |= {f"bench {n}": [arm.name for arm in bench.step_arms(n, 32, peers=True)] for n in (8, 16)}
    return {**arms, "atlas": [timed.arm for timed in atlas.ROUTES]}


def test_every_way_that_is_timed_is_in_the_catalogue():
    assert {arm for arms in compared().values() for arm in arms if not is_route(arm)} == set()


def test_no_two_routes_have_an_id_a_label_a_look_or_a_name_in_common():
    for of in (lambda r: r.id, lambda r: r.label, lambda r: (r.style.colour, r.style.marker, r.style.dash)):
        assert len({of(route) for route in ROUTES}) == len(ROUTES)
    assert [arm for arm, count in Counter(arm for route in ROUTES for arm in route.arms).items() if count > 1] == []


def test_the_routes_of_a_figure_are_told_apart_in_black_and_white():
    for title, arms in compared().items():
        assert len({route_of(arm).style.marker for arm in arms}) == len(arms), title


def test_an_arm_needs_a_gpu_where_its_route_does():
    assert all(arm.gpu == route_of(arm.name).gpu for cell in cells() for arm in cell.arms)
    assert {timed.arm for timed in atlas.ROUTES if timed.route.gpu} == set(atlas.usable_routes(False)[1])


def test_what_a_route_says_is_what_its_arm_is_told():
    for cell in cells():
        for arm in cell.arms:
            route, told = route_of(arm.name), arm.arguments
            if cell.cell not in ("engine", "original_engine", "bandwidth", "gpu_layers"):
                assert told.get("backend", "default.qubit") == route.backend
                assert told.get("mode", "eager") == route.mode
            assert told.get("device", "CPU:0") == route.device
            assert told.get("precision", route.precision) == route.precision


def test_works_are_those_of_the_cost_model():
    assert {route.work for route in ROUTES} == {"", *WORK}
    assert atlas_route("hybridbench.KerasLayer", "complex64").id == "compiled"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match=r"'lightning\.qubit/adjoint'"):
        route_of("lightning.qubit/adjiont")
    assert not is_route("adam")


def test_the_ground_floor_loads_neither_tables_nor_simulators():
    code = (
        "import sys, hybridbench.design.routes, hybridbench.design.workload, hybridbench.design.constants;"
        "sys.exit(', '.join({'pandas', 'numpy', 'tensorflow', 'pennylane', 'matplotlib'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
