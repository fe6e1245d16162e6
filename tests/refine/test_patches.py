"""Maps spread along the similarity of patches."""

from __future__ import annotations

import pytest
import torch

from recamlabel.errors import RecamlabelError
from recamlabel.refine.patches import MOST_PATCHES, patch_affinity, spread_maps


def two_things() -> torch.Tensor:
    """Features ``(2, 2, 4)``: the left half one thing, the right half another."""
    features = torch.zeros(2, 2, 4)
    features[0, :, :2] = features[1, :, 2:] = 1
    return features


def test_rows_sum_to_one_and_things_do_not_mix() -> None:
    affinity = patch_affinity(two_things(), 4.0)
    torch.testing.assert_close(affinity.sum(dim=1), torch.ones(8))
    left = torch.tensor([True, True, False, False] * 2)
    assert affinity[left][:, ~left].max() == 0
    torch.testing.assert_close(affinity[left][:, left], torch.full((4, 4), 0.25))


def test_constant_features_say_nothing() -> None:
    maps = torch.rand(2, 4, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(patch_affinity(torch.ones(3, 2, 2), 4.0), torch.eye(4))
    torch.testing.assert_close(spread_maps(maps, torch.ones(3, 2, 4), 4.0), maps)


def test_a_thing_half_seen_is_filled_and_the_rest_stays() -> None:
    maps = torch.zeros(1, 2, 4)
    maps[0, 0, 0] = 1.0
    spread = spread_maps(maps, two_things(), 4.0)
    assert spread[0, :, :2].min() == pytest.approx(1.0), "all of the left half is alike, and the peak stays what it was"
    assert spread[0, :, 2:].max() == 0


def test_weight_zero_changes_nothing_and_classes_keep_their_peaks() -> None:
    maps = (
        torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    )
    features = torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(spread_maps(maps, features, 4.0, 0.0), maps)
    spread = spread_maps(maps, features, 2.0, 0.7)
    torch.testing.assert_close(spread.amax(dim=(1, 2)), maps.amax(dim=(1, 2)))
    assert spread.min() >= 0 and spread.isfinite().all()


def test_no_class_and_too_many_patches() -> None:
    assert spread_maps(torch.zeros(0, 4, 4), torch.ones(3, 2, 2), 4.0).shape == (0, 4, 4)
    side = int(MOST_PATCHES**0.5) + 1
    with pytest.raises(RecamlabelError, match="patches: expected at most 4096"):
        spread_maps(torch.zeros(1, 4, 4), torch.ones(3, side, side), 4.0)
