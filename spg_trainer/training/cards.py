"""Accelerators in numbers: what --gpu names, by the data sheets of their maker, and what is assumed of each."""

import re
from dataclasses import dataclass, replace

from spg_trainer.errors import ConfigError, did_you_mean

REACHED = 790 / 989.4
"""Share of a data sheet's bfloat16 rate that one large matrix product reaches: 790 TFLOP/s were measured on an H200."""
USABLE = 0.9
"""Share of a card's memory that tensors can take; CUDA, the driver, error correction and gaps between tensors have
the rest."""
PCIE_4 = 32e9
"""Bytes a second in each direction through 16 lanes of PCIe 4.0."""
REACHED_FLOAT32 = 0.9
"""The same share for float32."""
LINKS = {"nvlink": 450e9, "pcie": PCIE_4, "ib400": 50e9}
"""What --link names, in bytes a second in each direction: NVLink 4 of an H100 (its data sheet says 900 GB/s for both
directions together), 16 lanes of PCIe 4.0, and InfiniBand NDR."""


@dataclass(frozen=True)
class Device:
    """An accelerator and its links. The figures are assumptions, and printed with every estimate."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """Operations a second of a large matrix product in bfloat16."""
    wide_flops: float
    """The same in float32 or float64; torch by default uses no tensor cores for it."""
    bandwidth: float
    """Bytes a second from its memory."""
    link: float = 50e9
    """Bytes a second from other devices. --link sets it; the default is a network card of 400 Gb/s for each device."""
    utilisation: float = 0.6
    """Share of `flops` or `wide_flops` that a whole pass of a model reaches."""
    starts: float = 1.0
    """A factor: how long Python takes to start a layer's kernels, relative to the host of the H100 on which the `START`
    constants of roofline.py were measured."""
    note: str = ""
    """What a user of this card should know."""

    def rate(self, bytes: int) -> float:
        """Operations a second of whole passes, in a type of so many bytes a number (2 = bfloat16)."""
        return self.utilisation * (self.flops if bytes == 2 else self.wide_flops)

    @property
    def usable(self) -> float:
        """Bytes that tensors can take."""
        return USABLE * self.memory


def _card(name: str, gib: int, gb_s: float, bf16: float, fp32: float, link: float = Device.link) -> Device:
    """A card with the figures of its data sheet.

    gib, gb_s: size and speed of its memory, in GiB and GB/s. bf16, fp32: TFLOP/s of products that are summed in
    float32. They are those of dense matrices; a data sheet may give twice as much, with 2:4 sparsity.
    """
    return Device(
        name=name,
        memory=gib * 2**30,
        flops=REACHED * bf16 * 1e12,
        wide_flops=REACHED_FLOAT32 * 1e12 * fp32,
        bandwidth=gb_s * 1e9,
        link=link,
    )


CARDS = {
    # NVIDIA Ampere GA102 GPU architecture, white paper V2, table of the GeForce RTX 3090.
    "3090": _card("RTX 3090", 24, 936, 71.0, 35.6, PCIE_4),
    # The same, scaled by cores and clock: data sheet of the GeForce RTX 3090 Ti.
    "3090Ti": _card("RTX 3090 Ti", 24, 1008, 80.0, 40.0, PCIE_4),
    # NVIDIA Ada GPU architecture, white paper V2, table of the GeForce RTX 4090.
    "4090": _card("RTX 4090", 24, 1008, 165.2, 82.6, PCIE_4),
    # NVIDIA RTX Blackwell GPU architecture, white paper, table of the GeForce RTX 5090; PCIe 5.0.
    "5090": _card("RTX 5090", 32, 1792, 209.5, 104.8, 2 * PCIE_4),
    # NVIDIA A10 data sheet.
    "A10": _card("A10", 24, 600, 125, 31.2, PCIE_4),
    # NVIDIA RTX A6000 data sheet; its 309.7 TFLOP/s are with sparsity.
    "A6000": _card("RTX A6000", 48, 768, 154.8, 38.7, PCIE_4),
    # NVIDIA L40S data sheet; its 733 TFLOP/s are with sparsity.
    "L40S": _card("L40S", 48, 864, 362, 91.6, PCIE_4),
    # NVIDIA V100 data sheet, SXM2 of 32 GB. It has no bfloat16 units: torch computes it at float32's rate at best.
    "V100": replace(
        _card("V100", 32, 900, 15.7, 15.7),
        flops=REACHED_FLOAT32 * 1e12 * 15.7,  # not `REACHED`, which is of tensor cores
        note="A V100 needs torch for CUDA 12 (docs/first_gpu_run.md). It has no bfloat16 units, so --dtype float32 is "
        "as fast there.",
    ),
    # NVIDIA L4 data sheet; its 242 TFLOP/s are with sparsity.
    "L4": _card("L4", 24, 300, 121, 30.3, PCIE_4),
    # NVIDIA A100 data sheet: 40 GB as of 2020, 80 GB SXM as of 2021.
    "A100-40": _card("A100 40 GB", 40, 1555, 312, 19.5),
    "A100-80": _card("A100 80 GB", 80, 2039, 312, 19.5),
    # NVIDIA H100 data sheet, SXM; its 1,979 TFLOP/s are with sparsity.
    "H100": _card("H100", 80, 3350, 989.4, 67),
    # NVIDIA H200 data sheet, SXM.
    "H200": _card("H200", 141, 4800, 989.4, 67),
    # NVIDIA HGX B200 data sheet, an eighth of its 1.44 TB, 62 TB/s (rounded there), 18 PFLOP/s and, in float32, 600
    # TFLOP/s.
    "B200": _card("B200", 180, 7700, 2250, 75),
}
"""What --gpu names."""


def find_card(name_or_size: str) -> Device:
    """The card that --gpu names; for a size, e.g. `32GiB`, a card with so much memory that is as fast as an RTX 4090.

    Raises ConfigError, with the list of cards, for what is neither a name nor a size.
    """
    for name, card in CARDS.items():
        if name.lower() == name_or_size.lower():
            return card
    if size := re.fullmatch(r"(\d+)\s*(?:GiB|GB)", name_or_size, re.IGNORECASE):
        name = f"card of {size[1]} GiB (as fast as an RTX 4090)"
        return replace(CARDS["4090"], name=name, memory=int(size[1]) * 2**30)
    raise ConfigError(
        f"--gpu {name_or_size} is unknown. {did_you_mean(name_or_size, CARDS)}Use one of {', '.join(CARDS)}, or a "
        "size, e.g. 32GiB."
    )
