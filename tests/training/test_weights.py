from __future__ import annotations

import pickle

import pytest
import torch

from recamlabel.errors import ConfigError, WeightsError
from recamlabel.models import weights
from recamlabel.models.backbones import Backbone
from recamlabel.models.weights import load_backbone_weights, load_strict, read_weights, save_weights


def test_embedded_weights_are_imagenet_weights():
    backbone = Backbone("tf_efficientnet_lite0")
    load_backbone_weights(backbone, "embedded")
    features = backbone.eval()(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 1280, 4, 4) and float(features.detach().min()) >= 0
    # Trained batch-norm statistics: not the zeros and ones of a new network.
    assert not torch.equal(backbone.net.bn1.running_var, torch.ones_like(backbone.net.bn1.running_var))


def test_embedded_exists_for_few_networks():
    with pytest.raises(WeightsError, match=r"exists for tf_efficientnet_lite0.*not for 'resnet10t'.*--preset quick"):
        load_backbone_weights(Backbone("resnet10t"), "embedded")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as weights"),
        (b"plain text, no weights", "cannot be read as weights"),
        ({"conv.weight": torch.tensor([1.0, float("nan")])}, r"1 of 1 tensors hold NaN or infinity \(conv.weight"),
        ({"epoch": 3}, "something else than a dictionary of tensors"),
        ([1, 2], "something else than a dictionary of tensors"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=message):
        read_weights(path)


def test_weights_that_cannot_be_fetched(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    backbone = Backbone("resnet10t")
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(WeightsError, match=r"cannot be fetched \(no route to host\).*--weights FILE.*--preset quick"):
        load_backbone_weights(backbone, "imagenet")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_files_with_a_classifier_fit(tmp_path, suffix):
    import timm
    from safetensors.torch import save_file

    state = timm.create_model("resnet10t").state_dict()
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    backbone = Backbone("resnet10t")
    load_backbone_weights(backbone, str(path))
    assert torch.equal(backbone.net.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_every_wrong_key_is_reported(tmp_path):
    module = torch.nn.Linear(2, 3)
    with pytest.raises(WeightsError) as error:
        load_strict(module, {"weight": torch.zeros(3, 5), "other": torch.zeros(1)}, origin="w.pth")
    assert str(error.value) == (
        "w.pth: weights of another network: 1 missing: bias; 1 unexpected: other; "
        "1 of another shape: weight (expected (3, 2), got (3, 5))"
    )


def test_no_code_runs_from_a_pickle(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "hacked"), "w"))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_weights(path)
    assert not (tmp_path / "hacked").exists()


def test_missing_damaged_and_wrong_files(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="a folder, not a weights file"):
        read_weights(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"123")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_weights(tmp_path / "bad.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="something else than a dictionary of tensors"):
        read_weights(tmp_path / "list.pth")


def test_round_trip_and_identity(tmp_path):
    module = torch.nn.Linear(2, 3)
    path = tmp_path / "weights" / "w.safetensors"
    save_weights(path, module, {"stage_key": "k"})
    assert torch.equal(read_weights(path)["weight"], module.weight)
    first = weights.weights_identity(str(path))
    save_weights(path, torch.nn.Linear(2, 3), {"stage_key": "k"})
    assert first != weights.weights_identity(str(path)) and weights.weights_identity("none") == "none"


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("resnet5O", 16, r"no model 'resnet5O'; did you mean"),
        ("cait_xxs24_224", 16, "takes images of one size only"),
    ],
)
def test_backbones_that_cannot_be(name, stride, message):
    with pytest.raises(ConfigError, match=message):
        Backbone(name, stride)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride(stride):
    assert Backbone("resnet10t", stride)(torch.zeros(1, 3, 64, 64)).shape[2:] == (64 // stride, 64 // stride)
