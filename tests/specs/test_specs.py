"""Every bundled spec and variant is sound, scales, meets its budgets and says where it is from."""

from __future__ import annotations

import re

import numpy as np
import pytest

import cnnc
from cnnc import specs
from cnnc.data.feeding.checks import require_pictures
from cnnc.data.sources.data_set import Examples
from cnnc.ir import verify
from cnnc.ir.text import print_graph, read_graph
from cnnc.loading import examine, find, load_spec
from cnnc.ops import Softmax
from cnnc.overrides import Overrides
from tests.support.bundled import all_names, built

NO_CLASSIFIERS = ("alphafold", "alphazero", "astronet", "qanet", "resnet3d", "unet", "voxnet", "wavenet")
"""Of pictures: of other things, or of every part of them."""


def test_the_bundled_specs_are_those_promised() -> None:
    assert set(specs.names()) >= {
        *("mlp", "mnist_cnn", "cifar_cnn", "vgg", "resnet", "densenet", "efficientnet", "mobilenet_v2"),
        *("alphazero", "astronet", "voxnet", "alexnet", "resnet_v1", "resnet_v2", "resnext", "wide_resnet"),
        *("inception_v1", "inception_v3", "nasnet", "unet", "alphafold", "resnet3d", "wavenet"),
        *("mobilenet_v1", "mobilenet_v3", "mnasnet", "efficientnet_lite", "efficientnet_edgetpu", "efficientnet_v2"),
        *("squeezenet", "shufflenet_v2", "convnext", "xception", "qanet"),
    }


@pytest.mark.parametrize("name", specs.names())
def test_every_spec_meets_its_budgets(name: str) -> None:
    net, diagnostics = examine(find(name), Overrides(), budgets=True)
    assert net is not None
    assert diagnostics == []


@pytest.mark.parametrize("name", specs.names())
def test_every_spec_is_augmented_only_as_its_input_can_be(name: str) -> None:
    net = load_spec(find(name), Overrides())
    shapes = tuple(node.shape for node in net.graph.inputs)
    examples = Examples(tuple(np.zeros((1, *shape), np.uint8) for shape in shapes), (np.zeros(1, np.int32),))
    require_pictures(examples, shapes, net.recipe.augment)


@pytest.mark.parametrize("name", specs.names())
def test_every_spec_says_where_it_is_from(name: str) -> None:
    assert re.match(r"# .*(\b(19|20)\d\d\b|[Tt]he talk)", specs.read(name)), "the first line cites a paper or the talk"


@pytest.mark.parametrize("name", all_names())
def test_every_variant_is_a_sound_graph_that_its_text_gives_again(name: str) -> None:
    graph = built(name)
    verify(graph)
    assert read_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("name", specs.names())
@pytest.mark.parametrize(
    "overrides",
    [Overrides(phi=0.5), Overrides(width=0.5), Overrides(depth=1.5), Overrides(resolution=1.25)],
    ids=lambda o: ",".join(k for k in ("phi", "width", "depth", "resolution") if getattr(o, k)),
)
def test_every_spec_scales(name: str, overrides: Overrides) -> None:
    net, diagnostics = examine(find(name), overrides)
    assert diagnostics == []
    assert net is not None
    verify(net.graph)


@pytest.mark.parametrize("name", [n for n in specs.names() if n not in NO_CLASSIFIERS])
def test_every_classifier_takes_other_pictures_and_classes(name: str) -> None:
    graph = cnnc.load(name, input=(96, 96, 1), classes=7).graph
    assert graph.inputs[0].shape == (96, 96, 1)
    assert graph[graph.outputs[0][1]].shape == (7,)


@pytest.mark.parametrize("name", specs.names())
def test_classifiers_end_in_probabilities(name: str) -> None:
    graph = cnnc.load(name).graph
    if name not in ("alphazero", "astronet"):
        assert isinstance(graph[graph.outputs[0][1]].op, Softmax)
