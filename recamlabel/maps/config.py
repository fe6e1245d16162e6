"""Settings of the class maps and of the probe."""

from __future__ import annotations

from pydantic import Field, model_validator

from recamlabel.core.section import Section


class MapsConfig(Section):
    """Class maps over scales and flips (docs/method.md, 1)."""

    variant: str = Field(
        "cam", description="how a map is made from features and weights; unknown names list the choices"
    )
    file: str = Field("", description="HDF5 file of maps.variant=precomputed: 'cam/<image id>' or '<image id>'")
    advcam_steps: int = Field(10, ge=0, le=100, description="climbing steps of maps.variant=advcam")
    scales: list[float] = Field([1.0, 0.5, 1.5, 2.0], min_length=1, description="input scales that are summed")
    flip: bool = Field(True, description="add the horizontally flipped image at every scale")
    max_side: int = Field(640, ge=32, description="images with a longer side are scaled down to it before scale 1.0")
    stored_stride: int = Field(4, ge=1, le=32, description="pixels of that image per stored map pixel")
    memory_patches: int = Field(
        2000, ge=1, le=100_000, description="patches of normal images that maps.variant=patchmemory remembers at most"
    )
    memory_scale: float = Field(2.0, gt=0, le=8, description="input scale at which maps.variant=patchmemory looks")

    @model_validator(mode="after")
    def _positive(self) -> MapsConfig:
        if any(scale <= 0 or scale > 8 for scale in self.scales):
            raise ValueError(f"scales must lie in (0, 8], got {self.scales}")
        return self


class LocalConfig(Section):
    """Maps of linear heads on frozen features, at the size that a class is recognised best at (docs/method.md, 1)."""

    enabled: bool = Field(False, description="choose the size of the inputs by recognition, and make local maps")
    sides: list[int] = Field(
        [], description="long sides in pixels to try; empty: from 320 to the images' own, at most 4096, in steps of 1.6"
    )
    shares: list[float] = Field(
        [0.1, 0.01, 0.001], min_length=1, description="shares of an image's places that its answer may rest on, to try"
    )
    folds: int = Field(3, ge=2, le=20, description="heads; each is fitted to the images of the other folds")
    components: int = Field(192, ge=2, le=2048, description="principal components of the features")
    images: int = Field(300, ge=2, description="at most so many training images are fitted to, rare classes first")
    weight: float = Field(
        0.3,
        gt=0,
        le=1,
        description="least share of the local maps where they take part; more, the less the whole image tells",
    )

    @model_validator(mode="after")
    def _in_range(self) -> LocalConfig:
        if any(not 32 <= side <= 16384 for side in self.sides):
            raise ValueError(f"sides must lie in 32..16384, got {self.sides}")
        if any(not 0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must lie in (0, 1], got {self.shares}")
        return self


class ProbeConfig(Section):
    """A linear probe across images that the class maps are fused with (recamlabel.maps.probe)."""

    enabled: bool = Field(False, description="join the class maps with a linear probe on the classifier's features")
    weight: float = Field(0.5, gt=0, lt=1, description="share of the probe beside the class maps in the fused maps")
    prior_correction: float = Field(
        0.5, ge=0, le=2, description="how far classes with few sure pixels are helped against those with many; 0: not"
    )
    iterations: int = Field(3, ge=1, le=10, description="fits, each to the sure pixels of the maps fused so far")
    folds: int = Field(5, ge=2, le=20, description="probes; each is fitted to the images of the other folds")
    fg_level: float = Field(0.6, gt=0, lt=1, description="pixels with a map above are taken as its class")
    bg_level: float = Field(0.3, ge=0, lt=1, description="pixels with all maps below are taken as background")
    images: int = Field(2000, ge=2, description="at most so many images are fitted to, rare classes first")
    pixels: int = Field(100, ge=1, description="positions drawn from each of them")
    scale: float = Field(1.5, gt=0, le=4, description="input scale of the features")
    fine_sides: list[int] = Field(
        [], description="long sides in pixels of inputs whose maps tell where objects end; empty: none"
    )
    alternations: int = Field(
        1,
        ge=0,
        le=5,
        description="times it is fitted again, to the fused maps after the dense CRF, where that is installed",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ProbeConfig:
        if self.bg_level > self.fg_level:
            raise ValueError(f"bg_level {self.bg_level} must not be above fg_level {self.fg_level}")
        if any(not 32 <= side <= 4096 for side in self.fine_sides):
            raise ValueError(f"fine_sides must lie in 32..4096, got {self.fine_sides}")
        return self
