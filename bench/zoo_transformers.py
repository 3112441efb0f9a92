"""Networks of Hugging Face's transformers, in PyTorch, and their weights by way of `cnnc import-weights`' own code.

The state dict goes through a file, as anyone's weights do. In safetensors tensors are sorted by their names, so that
the order of layers has to be found; `torch.save` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from bench.zoo_peers import Peer, Pictures
from cnnc.net import Net, Weights
from cnnc.ops.preprocessing import PRESETS
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine


def answer(
    peer: Peer, net: Net, pictures: Pictures, suffix: Literal[".safetensors", ".pt"] = ".safetensors"
) -> tuple[NDArray[np.float32], Weights]:
    """The network's logits for pictures of 0 to 255, and its weights by the nodes of ours."""
    model = build(peer.name, {"num_labels": net.graph[net.graph.outputs[0][1]].shape[-1], **peer.options})
    mean, std = (np.array(values, np.float32) for values in PRESETS[peer.pixels])
    prepared = torch.from_numpy(((pictures - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        settle(model, prepared)
        logits = model(prepared).logits.numpy()
    with TemporaryDirectory() as folder:
        path = Path(folder, f"model{suffix}")
        write(path, model.state_dict())
        weights = combine(net.graph, read_source(path), Options()).weights
    return logits, weights


def build(name: str, options: Mapping[str, Any]) -> Any:
    """A classifier of random weights, ready to infer. Nothing is downloaded."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options)
    model = getattr(transformers, f"{name}ForImageClassification")(config).eval()
    randomize(model)
    return model


def randomize(model: nn.Module) -> None:
    """New values for all weights, none of them neutral."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith(("running_var", "layer_scale_parameter")) or (name.endswith("weight") and parameter.ndim == 1):
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        elif name.endswith("weight"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.normal_(parameter, 0, 0.2, generator=generator)


def settle(model: nn.Module, pictures: torch.Tensor) -> None:
    """Give batch norms statistics near those that these pictures have there, as training does, but not those.

    Those that end residual branches become small. With any others activations grow or fade from layer to layer, until
    it is rounding errors that are compared, or the pictures make no difference.
    """
    generator = torch.Generator().manual_seed(1)

    def first(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        mean, variance = values.mean(1), values.var(1, unbiased=False)
        variance = (
            variance + variance.mean()
        )  # no channel of a small one is made large, and its rounding errors with it
        shift, factor = torch.randn(mean.shape, generator=generator), torch.rand(mean.shape, generator=generator)
        norm.get_buffer("running_mean").copy_(mean + 0.2 * shift * variance.sqrt())
        norm.get_buffer("running_var").copy_(variance * (0.5 + factor))

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if (last := _last_norm(module)) is not None:
            module.get_parameter(f"{last}.weight").mul_(1 / 8)
    hooks = [norm.register_forward_pre_hook(first) for norm in norms]
    model(pictures)
    for hook in hooks:
        hook.remove()


def _last_norm(module: nn.Module) -> str | None:
    """The norm at the end of a residual branch, of modules that have one."""
    match type(module).__name__:
        case "ResNetBasicLayer" | "ResNetBottleNeckLayer":
            return f"layer.{len(list(module.get_submodule('layer').children())) - 1}.normalization"
        case "MobileNetV2InvertedResidual" if module.use_residual:
            return "reduce_1x1.normalization"
        case "EfficientNetFinalBlockLayer" if module.apply_dropout:
            return "project_bn"
    return None


def write(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """A state dict as a file of safetensors or of PyTorch."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(dict(state), path)
