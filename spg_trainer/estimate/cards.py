"""The accelerators that --gpu names, by the data sheets of their maker."""

import re
from dataclasses import dataclass, replace

from spg_trainer.errors import ConfigError, did_you_mean

USABLE = 0.9
"""Share of a card's memory that tensors can take; CUDA, the driver, error correction and gaps between tensors take the
rest."""


@dataclass(frozen=True)
class Card:
    """An accelerator, by the data sheet of its maker."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """Operations a second of matrix products in bfloat16, summed in float32."""
    wide_flops: float
    """The same in float32 or float64, for which torch by default uses no tensor cores."""
    note: str = ""
    """What a user of this card should know."""

    @property
    def usable(self) -> float:
        """Bytes that tensors can take."""
        return USABLE * self.memory


def _card(name: str, gib: int, bf16: float, fp32: float, note: str = "") -> Card:
    """A card with the figures of its data sheet.

    gib: size of its memory in GiB. bf16, fp32: TFLOP/s of products of dense matrices, summed in float32. With 2:4
    sparsity, a data sheet may give twice as much.
    """
    return Card(name, gib * 2**30, 1e12 * bf16, 1e12 * fp32, note)


CARDS = {
    # NVIDIA Ampere GA102 GPU architecture, white paper V2, table of the GeForce RTX 3090.
    "3090": _card("RTX 3090", 24, 71.0, 35.6),
    # The same, scaled by cores and clock: data sheet of the GeForce RTX 3090 Ti.
    "3090Ti": _card("RTX 3090 Ti", 24, 80.0, 40.0),
    # NVIDIA Ada GPU architecture, white paper V2, table of the GeForce RTX 4090.
    "4090": _card("RTX 4090", 24, 165.2, 82.6),
    # NVIDIA RTX Blackwell GPU architecture, white paper, table of the GeForce RTX 5090.
    "5090": _card("RTX 5090", 32, 209.5, 104.8),
    # NVIDIA A10 data sheet.
    "A10": _card("A10", 24, 125, 31.2),
    # NVIDIA RTX A6000 data sheet; its 309.7 TFLOP/s are with sparsity.
    "A6000": _card("RTX A6000", 48, 154.8, 38.7),
    # NVIDIA L40S data sheet; its 733 TFLOP/s are with sparsity.
    "L40S": _card("L40S", 48, 362, 91.6),
    # NVIDIA V100 data sheet, SXM2 of 32 GB. It has no bfloat16 units: torch computes it at float32's rate at best.
    "V100": _card(
        "V100",
        32,
        15.7,
        15.7,
        note="A V100 needs torch for CUDA 12, as builds for CUDA 13 leave it out. It has no bfloat16 units, so "
        "--dtype float32 is as fast there.",
    ),
    # NVIDIA L4 data sheet; its 242 TFLOP/s are with sparsity.
    "L4": _card("L4", 24, 121, 30.3),
    # NVIDIA A100 data sheet: 40 GB as of 2020, 80 GB SXM as of 2021.
    "A100-40": _card("A100 40 GB", 40, 312, 19.5),
    "A100-80": _card("A100 80 GB", 80, 312, 19.5),
    # NVIDIA H100 data sheet, SXM; its 1,979 TFLOP/s are with sparsity.
    "H100": _card("H100", 80, 989.4, 67),
    # NVIDIA H200 data sheet, SXM.
    "H200": _card("H200", 141, 989.4, 67),
    # NVIDIA HGX B200 data sheet, an eighth of its 1.44 TB, 18 PFLOP/s and, in float32, 600 TFLOP/s.
    "B200": _card("B200", 180, 2250, 75),
}
"""{name for --gpu: card}."""


def find_card(name_or_size: str) -> Card:
    """The card that --gpu names; for a size, e.g. `32GiB`, a card with so much memory that is as fast as an RTX 4090.

    Raises ConfigError, with the list of cards, for what is neither a name nor a size.
    """
    for name, card in CARDS.items():
        if name.lower() == name_or_size.lower():
            return card
    if size := re.fullmatch(r"(\d+)\s*(?:GiB|GB)", name_or_size, re.IGNORECASE):
        name = f"card of {size[1]} GiB (as fast as an RTX 4090)"
        return replace(CARDS["4090"], name=name, memory=int(size[1]) * 2**30)
    # In a message, `$name` is a setting: it is shown as a flag or as a keyword (`errors.py`).
    raise ConfigError(
        f"$gpu={name_or_size} is unknown. {did_you_mean(name_or_size, CARDS)}Use one of {', '.join(CARDS)}, or a "
        "size, e.g. 32GiB."
    )
