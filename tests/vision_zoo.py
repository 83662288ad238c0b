"""Networks of timm and torchvision at small sizes, by name: nothing is downloaded."""

import importlib.util
from collections.abc import Callable

import torch
from torch import nn

SIZE = 64
"""Of the images that they read, in pixels."""

TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    name: lambda name=name, settings=settings: _torchvision(name, **settings)
    for name, settings in {
        "resnet18": {},
        "vgg11_bn": {},
        "mobilenet_v2": {},
        "convnext_tiny": {},
        "vit_b_16": {"image_size": SIZE},
        "swin_t": {},
    }.items()
}
TIMM: dict[str, Callable[[], nn.Module]] = {
    name: lambda name=name, settings=settings: _timm(name, **settings)
    for name, settings in {
        "vit_tiny_patch16_224": {"img_size": SIZE},
        "resnet26": {},
        "convnext_atto": {},
        "mixer_s32_224": {"img_size": SIZE},
        "efficientnet_b0": {},
    }.items()
}
BY_LIBRARY = {"torchvision": TORCHVISION, "timm": TIMM}


def is_installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def build(library: str, name: str) -> nn.Module:
    """One of them with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return BY_LIBRARY[library][name]().eval()


def _torchvision(name: str, **settings: int) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, weights=None, num_classes=4, **settings)


def _timm(name: str, **settings: int) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=4, **settings)
