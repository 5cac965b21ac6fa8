"""The start of training: ImageNet's weights in the right places, and a model that can be taken apart."""

import subprocess
import sys

import pytest
import torch

from training import backbone
from training.split import Tail, Trunk

TINY = "test_efficientnet"


@pytest.fixture
def photos() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8, generator=generator)


def test_weights_are_matched_by_order_and_refused_when_a_shape_differs() -> None:
    theirs = {"_a": torch.zeros(2, 3), "_b": torch.ones(4)}
    assert list(backbone.matched(theirs, {"a": torch.empty(2, 3), "b": torch.empty(4)})) == ["a", "b"]
    with pytest.raises(ValueError, match="_b"):
        backbone.matched(theirs, {"a": torch.empty(2, 3), "b": torch.empty(5)})
    with pytest.raises(ValueError, match="2 weight tensors"):
        backbone.matched(theirs, {"a": torch.empty(2, 3)})


def test_the_default_backbone_starts_from_imagenet_with_an_undecided_head(photos: torch.Tensor) -> None:
    model = backbone.desk_model()
    imagenet = backbone.imagenet_classifier()
    state, given = model.backbone.state_dict(), imagenet.state_dict()
    assert all(torch.equal(state[name], given[name]) for name in state if "classifier" not in name)
    with torch.inference_mode():
        assert model(photos).tolist() == [0.0, 0.0, 0.0]


def test_unknown_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="list_models"):
        backbone.desk_model("no_such_net")
    with pytest.raises(ValueError, match="no ImageNet weights"):
        backbone.imagenet_classifier(TINY)


@pytest.mark.parametrize("frozen", [1, 3])
def test_trunk_and_tail_are_the_whole_model(photos: torch.Tensor, frozen: int) -> None:
    model = backbone.desk_model(TINY)
    torch.nn.init.normal_(Tail(model, 0).head.weight)
    with torch.inference_mode():
        whole = model(photos)
        assert torch.allclose(Tail(model, frozen)(Trunk(model, frozen)(photos)), whole, atol=1e-5)
        assert torch.allclose(Tail(model, 0)(photos), whole, atol=1e-5)


def test_only_what_lies_behind_the_trunk_is_trained() -> None:
    model = backbone.desk_model(TINY)
    names = {id(parameter): name for name, parameter in model.backbone.named_parameters()}
    trained = {names[id(parameter)] for parameter in Tail(model, 2).trained()}
    assert trained
    assert not any(name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1", "classifier")) for name in trained)
    assert len(Tail(model, 0).trained()) == len(names) - 2


def test_a_backbone_without_stages_says_which_setting_to_change() -> None:
    model = backbone.desk_model("test_resnet")
    with pytest.raises(ValueError, match="frozen_stages 0"):
        Trunk(model, 2)


def test_the_served_module_needs_nothing_of_training() -> None:
    script = (
        "import sys, runners.desk_model\n"
        "print({name.split('.')[0] for name in sys.modules} & {'sklearn', 'matplotlib', 'training', 'onnxruntime'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
