"""What autograd keeps of an update's pass of a model with an encoder and a decoder, from its configuration alone."""

from typing import Any

INDEX = 8
"""Bytes of the number of a token or of an expert."""


def canvas_activations(model: Any, sizes: Any, lora_r: int, recomputes: bool) -> float:
    """Bytes that the backward pass needs of the encoder's pass over the texts, and the decoder's over all canvases.

    model: the configuration. sizes: a `StepSizes`. recomputes: whether the decoder's layers are computed again in the
    backward pass; the encoder's never are.
    """
    copies = sizes.copies_at_once
    texts = copies / sizes.copies_of_text
    read = texts * sizes.text_columns  # columns of the encoder
    written = copies * sizes.copy_columns  # of the decoder
    seen = sizes.text_columns + sizes.copy_columns  # by a canvas: the text, and all noisy columns of its copy
    layers = model.text_config.per_layer_config
    kinds = model.text_config.layer_types
    total, decoder = 0.0, []
    for layer, kind in zip(layers, kinds, strict=True):
        column, of_seen = _layer(model, sizes, layer, kind == "sliding_attention", lora_r)
        total += read * (column + sizes.pass_bytes * sizes.text_columns + of_seen)
        decoder.append(written * (column + sizes.pass_bytes * seen) + copies * seen * of_seen)
    if recomputes:
        total += written * sizes.pass_bytes * sizes.shape.width * len(decoder) + max(decoder)
    else:
        total += sum(decoder)
    # The cosines and sines of positions, which layers of a kind share.
    angles = sum({kind: 2 * layer.head_dim for layer, kind in zip(layers, kinds, strict=True)}.values())
    return total + (read + written) * sizes.pass_bytes * angles + _ends(model, sizes, read, written)


def _layer(model: Any, sizes: Any, layer: Any, is_sliding: bool, lora_r: int) -> tuple[float, float]:
    """Bytes for each column of a layer, but for its mask; and for each column that its attention sees.

    layer: its own settings.
    """
    p, f = sizes.pass_bytes, sizes.trained_bytes
    width, ffn, heads = model.hidden_size, model.intermediate_size, model.num_attention_heads
    queries, keys = heads * layer.head_dim, layer.num_key_value_heads * layer.head_dim
    chosen, experts, inner = model.num_experts_per_tok, model.num_local_experts, model.moe_intermediate_size
    # Norms keep their input in float32 at least, and the square of its length twice. One input is that of three norms,
    # which have a copy each if it is narrower. Trained norms also keep what they multiply by their weight.
    normed = (6 + 2 * (p < f)) * width + queries + keys * (1 + is_sliding)
    lengths = 2 * (8 + heads + layer.num_key_value_heads * 2)
    if not sizes.adapters:
        normed += 7 * width + queries + keys
    column = f * (normed + lengths)
    # The inputs of linear layers: of queries, keys and values; of the gate and the up projection.
    column += p * 2 * width
    # Queries and the output of attention, and the total of each head's softmax.
    column += p * 2 * queries + f * heads
    # The gate, the activated gate, the up projection and their product.
    column += p * 4 * ffn
    # The router: all probabilities, and of the chosen experts their numbers, and their weights before and after they
    # are divided by their sum.
    column += f * (experts + 2 * chosen + 1) + INDEX * chosen
    # The experts: gate and up projection, the activated gate and what comes out; its weight and three numbers. Trained
    # experts also keep their input, and the product of the gate and the up projection.
    column += chosen * (p * (3 * inner + width) + f + 3 * INDEX)
    if sizes.adapters:
        column += p * lora_r * (7 if is_sliding else 6)
    else:
        column += chosen * p * (width + inner)
    # Keys and values, repeated for the heads that share them; a single head is not copied.
    return column, p * 2 * (keys if layer.num_key_value_heads == 1 else queries)


def _ends(model: Any, sizes: Any, read: float, written: float) -> float:
    """Bytes of what is before and behind the layers: self-conditioning, and the last norms."""
    p, f = sizes.pass_bytes, sizes.trained_bytes
    norm = f * (model.hidden_size * (1 if sizes.adapters else 2) + 2)
    conditioning = 0.0
    if not sizes.adapters:
        conditioning = p * (model.hidden_size + 4 * model.intermediate_size) + f * (2 * model.hidden_size + 2)
    return read * norm + written * (norm + conditioning)
