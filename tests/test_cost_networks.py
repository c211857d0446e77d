"""Small networks foreseen and executed: instructions, cycles, flash and RAM within the bounds that are promised."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cases import RELU, Maker
from digits import Net
from dnnc.artefact import INTEGER_GRAPH, Artefact
from dnnc.backends.c import emit, lower
from dnnc.cost.loader import load_target
from dnnc.driver import compile_with_report
from dnnc.foresight import finish, foresee, foresee_model, layout
from dnnc.frontend import read
from dnnc.ir.graph import Graph, freeze
from dnnc.ir.serial import dump_graph
from dnnc.ops.conv import Conv2D
from dnnc.ops.dense import Dense
from dnnc.ops.elementwise import Add
from dnnc.ops.pool import MaxPool2D, ReduceMean
from dnnc.ops.softmax import Softmax
from dnnc.passes.simplify import Simplify, simplify
from dnnc.quantise.sketch import sketch
from dnnc.run import make_runner
from dnnc.run.base import Execution
from dnnc.verify import random_codes
from models import tiny_cnn, tiny_mlp

SAME = (1, 1, 1, 1)
#: Goals: of a network, of a layer.
NETWORK, LAYER = 0.05, 0.15
COMPILERS = ("arm-none-eabi-gcc 12.2.1", "zig 0.17.0")
needs_gcc = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")


def _residual(make: Maker) -> list[str]:
    x = make.linear(Conv2D(padding=SAME, clamp=RELU), make.input(20, 18, 3), (12, 3, 3, 3), 8)
    y = make.linear(Conv2D(padding=SAME, clamp=RELU), x, (12, 3, 3, 12), 4)
    z = make.add(Add(clamp=RELU), [x, make.linear(Conv2D(padding=SAME), y, (12, 3, 3, 12), 5)])
    w = make.linear(Conv2D((2, 2), SAME), z, (28, 3, 3, 12), 2)
    mean = make.add(ReduceMean((0, 1)), [make.add(MaxPool2D((2, 2), (2, 2)), [w])])
    return [make.add(Softmax(), [make.linear(Dense(), mean, (7, 28), 8)], quant=Softmax.output_quant(8))]


def _separable(make: Maker) -> list[str]:
    x = make.linear(Conv2D((2, 2), (4, 1, 5, 1), clamp=RELU), make.input(40, 11, 1), (20, 10, 4, 1), 8)
    for outputs, stride, bits in ((28, 1, 8), (36, 2, 6), (44, 1, 3)):
        channels = make.types[x].shape[-1]
        depthwise = Conv2D((stride, stride), SAME, groups=channels, clamp=RELU)
        x = make.linear(depthwise, x, (channels, 3, 3, 1), bits)
        x = make.linear(Conv2D(clamp=RELU), x, (outputs, 1, 1, channels), bits)
    return [make.linear(Dense(), make.add(ReduceMean((0, 1)), [x]), (9, 44), 8)]


NETWORKS: dict[str, Callable[[Maker], list[str]]] = {"residual": _residual, "separable": _separable}


@dataclass(frozen=True)
class Counted:
    """One inference on the emulated core, built by COMPILERS; a Cortex-M's cycles by llvm-mca 19.1.7."""

    instructions: int
    cycles: int


COUNTED = {
    ("cortex-m7", "residual"): Counted(1_787_330, 1_390_087),
    ("cortex-m7", "separable"): Counted(512_603, 463_132),
    ("cortex-m4", "residual"): Counted(1_784_756, 2_023_339),
    ("cortex-m4", "separable"): Counted(512_253, 601_304),
    ("cortex-m33", "residual"): Counted(1_784_371, 2_021_375),
    ("cortex-m33", "separable"): Counted(511_774, 598_185),
    ("rv32imc", "residual"): Counted(5_737_278, 6_076_961),
    ("rv32imc", "separable"): Counted(1_406_832, 1_554_350),
    ("cortex-m0plus", "residual"): Counted(11_098_959, 13_629_641),
    ("cortex-m0plus", "separable"): Counted(2_391_139, 3_125_606),
}


def _graph(name: str, target: str) -> Graph:
    make = Maker(name, load_target(target).requantise == "shift")
    return make.graph(*NETWORKS[name](make))


@pytest.mark.parametrize(("target", "name"), COUNTED)
def test_foreseen_is_what_was_counted(target: str, name: str) -> None:
    cost = foresee(_graph(name, target), load_target(target))
    counted = COUNTED[target, name]
    assert cost.instructions == pytest.approx(counted.instructions, rel=NETWORK)
    assert cost.cycles == pytest.approx(counted.cycles, rel=NETWORK)


@needs_gcc
@pytest.mark.parametrize(("target", "name"), COUNTED)
def test_every_layer_is_foreseen(target: str, name: str) -> None:
    graph, hardware = _graph(name, target), load_target(target)
    execution = _execute(graph, target)
    assert execution.profile is not None and execution.flash is not None and execution.ram is not None
    total = execution.profile.total
    cost = foresee(graph, hardware)
    assert cost.instructions == pytest.approx(total.instructions, rel=NETWORK)
    assert cost.flash_bytes == pytest.approx(execution.flash.total, rel=NETWORK)
    assert 0 <= execution.ram.arena + execution.ram.static - cost.ram_bytes < 8  # some linkers round the section up
    if execution.compiler in COMPILERS:
        assert total.instructions == COUNTED[target, name].instructions
    for layer in cost.layers:
        found = execution.profile.layers[layer.name]
        if found.instructions > total.instructions // 200:
            assert layer.instructions == pytest.approx(found.instructions, rel=LAYER), layer.name


def _execute(graph: Graph, target: str) -> Execution:
    hardware = load_target(target)
    program = lower(graph, hardware)
    files = {**emit(graph, program, layout(graph, program), hardware), INTEGER_GRAPH: dump_graph(graph)}
    artefact = Artefact.create(graph.name, target, files, {})
    return make_runner(
        artefact, on="emulator", compiler="gcc" if target.startswith("cortex") else "auto", target=hardware
    ).run(random_codes(graph, 1, 0))


def test_a_sketch_costs_what_the_compiled_network_costs() -> None:
    """Same kernels, bytes and arena, without samples."""
    model, hardware = tiny_cnn(), load_target("cortex-m7")
    artefact, _ = compile_with_report(model, target="cortex-m7", bits="uniform{weights=4}")
    compiled = foresee(artefact.integer_graph, hardware)
    foreseen = foresee_model(read(model), 4, 8, hardware)
    assert [layer.name for layer in foreseen.layers] == [layer.name for layer in compiled.layers]
    assert foreseen.instructions == pytest.approx(compiled.instructions, rel=0.02)
    assert foreseen.flash_bytes == pytest.approx(compiled.flash_bytes, rel=0.02)
    assert foreseen.ram_bytes == compiled.ram_bytes


def test_a_sketch_keeps_zeros_and_finds_dead_channels() -> None:
    real = read(tiny_mlp())
    first = next(node for node in real.nodes if "weight" in node.params)
    weight, bias = np.array(first.params["weight"]), np.array(first.params["bias"])
    weight[1], bias[1] = 0, -1.0
    weight[2].flat[0] = 0
    made = replace(first, params=freeze({**first.params, "weight": weight, "bias": bias}))
    drawn = sketch(real.with_nodes([node if node is not first else made for node in real.nodes]), 8, 8)
    assert not drawn.by_name[first.name].params["weight"][1].any()
    assert drawn.by_name[first.name].params["weight"][2].flat[0] == 0
    left = simplify(drawn, Simplify()).by_name[first.name].params["weight"]
    assert len(left) == len(weight) - 1


@pytest.mark.quick
@pytest.mark.parametrize("bits", range(2, 9))
def test_no_channel_is_lost_that_has_weights(bits: int) -> None:
    """Layers on layers: values that hardly vary would make those behind them constant, which are then taken out."""
    net = Net(8, 8, 8)
    x = "x"
    for depth in range(5):
        x = net.conv(f"dw{depth}", x, 8, groups=8)
        x = net.conv(f"pw{depth}", x, 8, kernel=1)
    graph = net.graph(net.dense("fc", net.add("mean", ReduceMean(axes=(0, 1)), [x]), 4))
    made = finish(sketch(graph, bits, 8), load_target("cortex-m7"))
    assert [n.name for n in made.nodes] == [n.name for n in graph.nodes]
