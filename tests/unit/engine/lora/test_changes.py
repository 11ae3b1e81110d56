"""Every kind of change adds to a layer's answer what merging it into the weight would."""

from __future__ import annotations

import contextlib
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sfumato.core.errors import EngineFailure
from sfumato.engine.lora import Adaptable, Changes, RowGroup, RowLoras, grouped
from sfumato.engine.lora.building import Misshapen, Unknown, build_change
from sfumato.engine.lora.changes import Change
from sfumato.engine.lora.names import parse_name
from sfumato.engine.packing import pack
from sfumato.engine.remembering import Remembered
from sfumato.engine.weights import Placement
from tests.support import lora_files
from tests.support.lora_files import Maker

CPU = Placement(torch.device("cpu"), torch.float32)
WEIGHT = 0.7


def layer_of(name: str) -> tuple[nn.Module, Tensor]:
    """A layer, and three rows of input."""
    torch.manual_seed(1)
    if name == "linear":
        return nn.Linear(6, 8), torch.randn(3, 5, 6)
    kernel, stride = (1, 1) if name == "pointwise" else (3, 2)
    layer = nn.Conv2d(6, 8, kernel, stride=stride, padding=kernel // 2)
    return layer, torch.randn(3, 6, 5, 7)


def change_of(network: Adaptable, maker: Maker, weight: Tensor) -> tuple[Change, Tensor]:
    torch.manual_seed(2)
    parts, merged = maker(weight.detach())
    named = {parse_name(f"unet.0.{part}"): tensor for part, tensor in parts.items()}
    found = {name.part: tensor for name, tensor in named.items() if name is not None}
    return build_change(network.layers["0"], found, lambda _rank: 1.0, CPU), merged.detach()


CASES = [(layer, maker) for layer in ("linear",) for maker in lora_files.LINEAR]
CASES += [(layer, maker) for layer in ("pointwise", "strided") for maker in lora_files.CONVOLUTION]


@pytest.mark.parametrize("packed", [False, True], ids=["eager", "packed"])
@pytest.mark.parametrize(("name", "maker"), CASES, ids=lambda case: getattr(case, "__name__", case))
@torch.inference_mode()
def test_it_is_as_if_merged_for_its_rows_and_nothing_for_others(
    name: str, maker: Maker, packed: bool
) -> None:
    layer, values = layer_of(name)
    weight = layer.weight
    network = nn.Sequential(layer)
    if packed:
        pack(network, CPU)
    adaptable = Adaptable(network)
    plain = network(values)
    change, merged = change_of(adaptable, maker, weight)
    loras = RowLoras((RowGroup(torch.tensor([0, 2]), (({"0": change}, WEIGHT),)),))
    adaptable.use(loras)
    found = network(values)
    adaptable.use(None)
    assert torch.equal(network(values), plain)  # nothing is left behind
    assert not any(module._forward_hooks for module in network.modules())
    layer.weight = nn.Parameter(weight + WEIGHT * (merged - weight), requires_grad=False)
    wanted = layer(values)
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1], plain[1])
    assert change.weight(adaptable.layers["0"]).shape == weight.shape


@torch.inference_mode()
def test_several_add_up_and_each_row_has_its_weights() -> None:
    layer, values = layer_of("linear")
    adaptable = Adaptable(nn.Sequential(layer))
    made = [
        change_of(adaptable, maker, layer.weight) for maker in (lora_files.lora, lora_files.full)
    ]
    first, second = ({"0": change} for change, _ in made)
    slots = [[(first, 0.5), (second, -2.0)], [(first, 3.0), (second, 0.25)], []]
    for apart in (True, False):
        loras = grouped([0, 1, 2], slots, torch.device("cpu"), apart=apart)
        assert loras is not None
        assert len(loras.groups) == (2 if apart else 1)
        adaptable.use(loras)
        found = layer(values)
        adaptable.use(None)
        for row, slot in enumerate(slots):
            weight = layer.weight.clone()
            for (_, scale), (_, merged) in zip(slot, made, strict=False):
                weight += scale * (merged - layer.weight)
            wanted = nn.functional.linear(values[row], weight, layer.bias)
            torch.testing.assert_close(found[row], wanted, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_row_is_the_same_to_the_bit_whatever_its_neighbours_use() -> None:
    layer, values = layer_of("strided")
    adaptable = Adaptable(nn.Sequential(layer))
    change, _ = change_of(adaptable, lora_files.lora, layer.weight)
    other, _ = change_of(adaptable, lora_files.loha, layer.weight)
    mine = [({"0": change}, 0.8)]
    answers = []
    for neighbours in ([], mine, [({"0": other}, 1.0)]):
        loras = grouped([0, 1, 2], [mine, neighbours, []], torch.device("cpu"), apart=True)
        adaptable.use(loras)
        answers.append(layer(values))
    adaptable.use(None)
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][0], answers[2][0])
    assert torch.equal(answers[1][2], layer(values)[2])


@torch.inference_mode()
def test_weights_of_a_batch_that_is_gone_are_not_kept() -> None:
    layer, values = layer_of("linear")
    adaptable = Adaptable(nn.Sequential(layer))
    plain = layer(values)
    change, _ = change_of(adaptable, lora_files.lora, layer.weight)
    kept = weakref.ref(change.tensors[0])
    loras = grouped([0, 1, 2], [[({"0": change}, 1.0)]] * 3, torch.device("cpu"), apart=False)
    adaptable.use(loras)
    layer(values)
    del loras, change
    assert kept() is None
    with pytest.raises(EngineFailure, match="gone"):
        layer(values)
    adaptable.use(None)
    assert torch.equal(layer(values), plain)


def test_no_change_of_any_slot_is_no_group() -> None:
    assert grouped([0, 1, 0, 1], [[], []], torch.device("cpu"), apart=False) is None


_FILES: tuple[Changes, ...] = ({}, {}, {})
_USES = st.lists(st.tuples(st.integers(0, 2), st.floats(-2, 2)), max_size=3)


@given(st.lists(_USES, min_size=1, max_size=5), st.data(), st.booleans())
def test_every_row_of_a_slot_with_loras_is_in_one_group_with_its_weights(
    asked: list[list[tuple[int, float]]], data: st.DataObject, apart: bool
) -> None:
    slots = [[(_FILES[file], weight) for file, weight in uses] for uses in asked]
    owners = data.draw(st.lists(st.integers(0, len(slots) - 1), min_size=1, max_size=10))
    loras = grouped(owners, slots, torch.device("cpu"), apart=apart)
    found: dict[int, list[tuple[int, float]]] = {}
    for group in loras.groups if loras is not None else ():
        rows = [*range(len(owners))] if group.rows is None else group.rows.tolist()
        assert not apart or len({owners[row] for row in rows}) == 1
        for n, row in enumerate(rows):
            assert row not in found
            found[row] = [
                (id(changes), float(scales[n] if isinstance(scales, Tensor) else scales))
                for changes, scales in group.changes
            ]
    wanted = {
        row: [(id(changes), pytest.approx(weight)) for changes, weight in slots[owner]]
        for row, owner in enumerate(owners)
        if slots[owner]
    }
    assert found == wanted


@torch.inference_mode()
def test_what_is_remembered_of_a_prompt_is_forgotten_with_the_change() -> None:
    linear = nn.Linear(6, 8)
    network, values = nn.Sequential(Remembered(linear)), torch.randn(2, 5, 6)
    adaptable = Adaptable(network)
    plain = network(values).clone()
    change, merged = change_of(adaptable, lora_files.lora, linear.weight)
    loras = RowLoras((RowGroup(None, (({"0": change}, 1.0),)),))
    adaptable.use(loras)
    wanted = nn.functional.linear(values, merged, linear.bias)
    torch.testing.assert_close(network(values), wanted, atol=1e-5, rtol=1e-5)
    adaptable.use(None)
    assert torch.equal(network(values), plain)


@pytest.mark.parametrize("maker", [lora_files.lora, lora_files.full])
@torch.inference_mode()
def test_one_of_a_model_for_drawing_fits_one_for_inpainting(maker: Maker) -> None:
    layer, values = nn.Conv2d(9, 8, 3, padding=1), torch.randn(2, 9, 5, 5)
    adaptable = Adaptable(nn.Sequential(layer))
    narrow = layer.weight[:, :4].clone()
    change, merged = change_of(adaptable, maker, narrow)
    loras = RowLoras((RowGroup(None, (({"0": change}, 1.0),)),))
    adaptable.use(loras)
    found = layer(values)
    adaptable.use(None)
    wide = layer.weight.clone()
    wide[:, :4] = merged
    wanted = nn.functional.conv2d(values, wide, layer.bias, padding=1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_small_factors_of_a_huge_product_are_refused_before_they_are_multiplied() -> None:
    adaptable = Adaptable(nn.Sequential(nn.Linear(6, 8)))
    parts = {"lokr_w1": torch.ones(1, 1)}
    parts |= {"lokr_w2_a": torch.ones(1 << 22, 1), "lokr_w2_b": torch.ones(1, 1 << 22)}
    with pytest.raises(Misshapen, match="4194304"):
        build_change(adaptable.layers["0"], parts, lambda _rank: 1.0, CPU)


_TENSORS = st.lists(st.integers(0, 4), max_size=4).map(torch.ones)
_PARTS = ("down", "up", "mid", "alpha", "scale", "dora_scale", "magnitude", "diff", "diff_b")
_MORE = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "weight")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")


@given(
    st.dictionaries(st.sampled_from([*_PARTS, *_MORE, *_LOKR, "on_input"]), _TENSORS, min_size=1),
    st.booleans(),
)
def test_tensors_of_any_shape_are_a_change_or_refused(
    parts: dict[str, Tensor], convolution: bool
) -> None:
    layer = nn.Conv2d(2, 4, 3) if convolution else nn.Linear(2, 4)
    layer.requires_grad_(requires_grad=False)
    adaptable = Adaptable(nn.Sequential(layer))
    with contextlib.suppress(Misshapen, Unknown):
        change = build_change(adaptable.layers["0"], parts, lambda _rank: 1.0, CPU)
        assert change.weight(adaptable.layers["0"]).shape == layer.weight.shape
