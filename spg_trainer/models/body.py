"""Turns transformers' own ("stock") model classes into masked diffusion models, whose attention is not causal.

Attention is full, or block-causal. `spg_trainer.models.families` makes the classes: it mixes `Body` in before a stock
`...Model`, and `MaskedLM` before a stock `...ForCausalLM`.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import embedding, rms_norm
from torch.utils._triton import has_triton
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.integrations.moe import (
    ALL_EXPERTS_FUNCTIONS,
    batched_mm_experts_forward,
    grouped_mm_experts_forward,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward, rotate_half

from spg_trainer.architecture.llada import check_block_size
from spg_trainer.architecture.pattern import Pattern, block_causal_mask
from spg_trainer.errors import ModelError
from spg_trainer.models.shared_text import SharedText
from spg_trainer.models.varlen import sequence_ends


class RMSNorm(nn.Module):
    """The stock norm, except that a float64 model is not rounded to float32 on the way.

    size: D of the last axis. eps: added to the mean square.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: Tensor) -> Tensor:
        """hidden_states (..., D) in any dtype; returns the same shape and dtype."""
        # One kernel on a GPU, in float32 and rounded once, as the stock norm does before it multiplies its weight.
        normed = rms_norm(hidden_states, hidden_states.shape[-1:], eps=self.variance_epsilon)
        return self.weight * normed


class _Rows(torch.autograd.Function):
    """Looks up rows of a weight by number, as an embedding does.

    The gradient is added in place to the weight's `.grad`. A new tensor is returned only if there is no `.grad` yet.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, weight: Tensor) -> Tensor:
        ctx.numbers, ctx.weight = numbers, weight
        return embedding(numbers, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None]:
        weight = ctx.weight
        gradient_so_far = weight.grad if weight.is_leaf else None
        total = torch.zeros_like(weight) if gradient_so_far is None else gradient_so_far
        # On a GPU, index_add_ would add in no fixed order.
        total.index_put_((ctx.numbers,), gradient, accumulate=True)
        return None, total if gradient_so_far is None else None


class Embedding(nn.Embedding):
    """The stock embedding, except that a backward pass makes no new gradient tensor of the vocabulary's size.

    It adds gradients to `.grad` in place, so only `backward` can be used, not `torch.autograd.grad`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Token ids of any shape (...) to (..., D)."""
        return _Rows.apply(input, self.weight)


def pick(x: Tensor, keep: Tensor) -> Tensor:
    """The columns `keep` (B, n) of x (B, S, D), as (B, n, D)."""
    return x.gather(1, keep.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def experts_forward(experts: nn.Module, hidden_states: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Sends all tokens through their experts at once, by torch's grouped products; in float64, by batched products.

    hidden_states: (n, D). index, weights: (n, k), the k experts of each token and what each counts. Returns (n, D).
    """
    exact = hidden_states.dtype == torch.float64
    forward = batched_mm_experts_forward if exact else grouped_mm_experts_forward
    return forward(experts, hidden_states, index, weights)


EXPERTS = "spg_grouped"
"""The name of `experts_forward` in transformers, whose own implementation is a Python loop over experts."""
ALL_EXPERTS_FUNCTIONS.register(EXPERTS, experts_forward)


def base_of_adapter(name: Any) -> str | None:
    """The base model that the adapter in the folder `name` names; "" if it names none.

    None if the folder has no adapter, or if it also has the weights of a whole model, which is opened then.
    """
    folder = Path(str(name)).expanduser()
    file = folder / "adapter_config.json"
    whole_weights = (*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin"))
    if not file.is_file() or whole_weights:
        return None
    return (json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or "").strip()


class Checked:
    """Loading that refuses weights which do not fit config.json; transformers would fill in missing ones at random."""

    layers_at = "model.layers"
    """The name of the module with the transformer layers."""
    float32_logits = False
    """Whether states and head of 16 bits are multiplied into float32 logits, as --float32-logits asks."""
    forms = 1
    """How many forms of a pass there are, see `shortest_pass`."""
    unread: Mapping[str, Tensor] = {}
    """{name in the model's files: tensor} of those that the model does not have, and that are saved with it."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """As in transformers, also for a folder with an adapter and the config.json of its base.

        Raises ModelError for missing or unexpected weights (naming the first three), and for an adapter that names no
        base.
        """
        name = pretrained_model_name_or_path
        if (base := base_of_adapter(name)) == "":
            raise ModelError(
                f"{name} is an adapter that names no base model. Open the base, then: "
                f"peft.PeftModel.from_pretrained(base, {str(name)!r})"
            )
        if base:
            # transformers would take such a folder for a whole model, and find no weights in it.
            kwargs["adapter_kwargs"] = {
                **(kwargs.get("adapter_kwargs") or {}),
                "_adapter_model_path": str(name),
            }
            name = base
        model, report = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        for kind in ("missing_keys", "unexpected_keys"):
            if report[kind]:
                raise ModelError(f"its weights do not fit its config.json: {kind} {sorted(report[kind])[:3]}")
        return (model, report) if output_loading_info else model

    @classmethod
    def can_generate(cls) -> bool:
        """False: decoding from left to right makes no sense here, and no generation_config.json is to be written."""
        return False

    def generate(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Always raises ModelError: decoding from left to right would return nonsense without a word."""
        raise ModelError(
            f"a {self.config.model_type} cannot decode from left to right; use spg_trainer.generate(policy, prompts)"
        )


class KeepingLayer:
    """The last decoder layer, which may compute only some columns, since no later layer needs the others.

    Keys and values are still computed at all columns.
    """

    def forward(self, hidden_states: Tensor, keep: Tensor | None = None, **kwargs: Any) -> Tensor:
        """hidden_states (B, S, D) to (B, S, D), or to (B, n, D) at the columns keep (B, n)."""
        if keep is None:
            return super().forward(hidden_states, **kwargs)
        normed, mask = self.input_layernorm(hidden_states), kwargs.get("attention_mask")
        # A mask of pairs, (B, 1, S, K) or (B, 1, 1, K): the rows of the wanted queries can be picked from it.
        shapes_of_pairs = ((len(keep), 1, normed.shape[1]), (len(keep), 1, 1))
        shares_texts = kwargs.get("shared") is not None
        can_pick_queries = mask is None or mask.shape[:-1] in shapes_of_pairs or shares_texts
        can_pick_queries &= kwargs.get("columns") is None
        # The backward pass needs the queries of padding, too (`attend_by_length`).
        can_pick_queries &= kwargs.get("key_ends") is None
        if isinstance(self.self_attn, Float32Rotation) and can_pick_queries:
            attended, _ = self.self_attn(normed, asked=keep, **kwargs)
            kept = pick(hidden_states, keep) + attended
        else:
            # Flash attention takes a mask of keys (B, S), and so as many queries as keys. So does an exchange of
            # heads for columns.
            attended, _ = self.self_attn(hidden_states=normed, **kwargs)
            kept = pick(hidden_states + attended, keep)
        return kept + self.mlp(self.post_attention_layernorm(kept))


KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Torch's kernels of attention except cuDNN's."""


class AnyShape:
    """Attention without cuDNN, which prepares a plan for each new shape: in rollouts and updates few shapes repeat."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the layer's own `forward`; hidden_states (b, columns, D)."""
        if hidden_states.device.type != "cuda":
            return super().forward(hidden_states, *args, **kwargs)
        with sdpa_kernel(KERNELS):
            return super().forward(hidden_states, *args, **kwargs)


class Float32Angles:
    """A rotary embedding whose cosines and sines are float32 in a model of any type."""

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """x: gives the device; position_ids (B, S). Returns cos, sin, each (B, S, head_dim) float32."""
        if self.rope_type in ("dynamic", "longrope") or self.attention_scaling != 1:
            return super().forward(x.new_empty(0, dtype=torch.float32), position_ids)
        # The stock numbers in three kernels; each frequency stands twice.
        frequencies = self.inv_freq.float().expand(2, -1)
        angles = (position_ids[..., None, None] * frequencies).flatten(-2)
        return angles.cos(), angles.sin()


class Float32Rotation:
    """Llama's attention with queries and keys rotated in float32, and only the queries that are asked for."""

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        asked: Tensor | None = None,
        shared: SharedText | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(attention's output, its weights or None): (B, S, D) for hidden_states (B, S, D).

        asked: (B, n), the only columns with queries; the output is (B, n, D) then. None = all columns. shared: see
        `spg_trainer.models.shared_text`; None = no copies share their texts.
        """
        states, angles = hidden_states, position_embeddings
        if asked is not None:
            states = pick(hidden_states, asked)
            angles = tuple(pick(x.expand(len(asked), -1, -1), asked) for x in position_embeddings)
            if shared is not None:
                shared = replace(shared, only_asked=True)
            elif attention_mask is not None and attention_mask.shape[2] > 1:
                attention_mask = pick(attention_mask.squeeze(1), asked).unsqueeze(1)
        projected = (self.q_proj(states), self.k_proj(hidden_states), self.v_proj(hidden_states))
        query, key, value = (x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for x in projected)
        query, key = _rotate(query, *angles), _rotate(key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        kwargs |= {} if shared is None else {"shared": shared}
        dropout = self.attention_dropout if self.training else 0.0
        output, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return self.o_proj(output.reshape(*states.shape[:2], -1)), weights


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x with its positions rotated in, of the same shape and dtype; rounded once, at the end.

    x: (B, H, S, head_dim) in any dtype. cos, sin: (B, S, head_dim) float32.
    """
    # cos and sin are float32, so the products are, too; x itself is not copied to float32.
    return (x * cos.unsqueeze(1) + rotate_half(x) * sin.unsqueeze(1)).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `rotated`: one kernel on a GPU where torch finds its compiler, with the same roundings; else six."""
    if x.is_cuda and compiles_kernels() and not torch.compiler.is_compiling():
        return one_kernel()(x, cos, sin)
    return rotated(x, cos, sin)


@cache
def compiles_kernels() -> bool:
    """Whether torch can compile for a GPU: it needs Triton, and Triton a C compiler."""
    return has_triton() and any(map(shutil.which, ("cc", "gcc", "clang")))


@cache
def one_kernel() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`rotated`, compiled for any shape, forward and backward."""
    # A product and a sum would be contracted to one operation that rounds once; this option rounds as torch does.
    return torch.compile(rotated, dynamic=True, options={"emulate_precision_casts": True})


def mask_to_add(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of bools as numbers that are added to scores: log 1 = 0 where it is true, log 0 = -inf elsewhere."""
    return mask.to(dtype).log_()


def mix_in(part: type, module: nn.Module) -> None:
    """Puts `part` before the stock class of a module."""
    module.__class__ = _mixed(part, type(module))


@cache
def _mixed(part: type, stock: type) -> type:
    """A class of `part` and `stock`, always the same one, so that torch compiles one layer and not each of them."""
    return type(stock.__name__, (part, stock), {})


class Body:
    """Token ids (B, S) to hidden states (B, S, D), the last norm applied."""

    _keys_to_ignore_on_load_unexpected = None  # stock GLM would ignore the weights of layers 46 and 92
    is_compiled = False
    """Whether `compile_layers` has been called."""
    varlen_dtypes: frozenset[torch.dtype] = frozenset()
    """The types in which rows with padding attend without a mask; none without --varlen-attention."""

    def __init__(self, config: Any) -> None:
        # These families pad with an end token. As `padding_idx`, its embedding would start at zero and never learn.
        padding, config.pad_token_id = config.pad_token_id, None
        super().__init__(config)
        config.pad_token_id = padding
        self.embed_tokens.__class__ = Embedding
        mix_in(KeepingLayer, self.layers[-1])
        for name, module in list(self.named_modules()):
            if type(module).__name__.endswith("RMSNorm"):
                self.set_submodule(name, RMSNorm(len(module.weight), module.variance_epsilon))
            elif hasattr(module, "is_causal"):  # sdpa would be causal without a mask
                module.is_causal = False
                if config.family.rotates_in_float32:
                    mix_in(Float32Rotation, module)
                mix_in(AnyShape, module)
        if config.family.rotates_in_float32:
            mix_in(Float32Angles, self.rotary_emb)

    @property
    def pattern(self) -> Pattern:
        """Which tokens attend to which."""
        return Pattern(self.config.block_size, self.config.origin, self.config.context)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in transformers, and with keep (B, n) int64 in `kwargs`: the columns whose states are wanted; None = all.

        attention_mask: (B, 1, Q, K) bool, which column sees which; or (B, K), false on padding, from which the family's
        own mask and positions are made. None = no padding; with a cache of ours (`rollout.cache.Access`), all that it
        holds is seen.
        """
        queries = input_ids if inputs_embeds is None else inputs_embeds
        num_queries = queries.shape[1]
        is_our_cache = past_key_values is not None and not isinstance(past_key_values, Cache)
        sees_whole_cache = is_our_cache and attention_mask is None
        if attention_mask is not None and attention_mask.dim() == 2 and position_ids is None:
            positions = attention_mask.long().cumsum(-1) - 1
            position_ids = positions[:, -num_queries:].clamp(min=0)
        if not self.pattern.is_full and not sees_whole_cache:
            if attention_mask is None:
                past = 0 if past_key_values is None else past_key_values.get_seq_length()
                attention_mask = queries.new_ones(len(queries), past + num_queries, dtype=torch.bool)
            if attention_mask.dim() == 2:
                attention_mask = self._pairs_of_blocks(attention_mask.bool(), num_queries)
        is_of_pairs = attention_mask is not None and attention_mask.dim() == 4
        attention = self.config._attn_implementation
        dtype = self.embed_tokens.weight.dtype if inputs_embeds is None else inputs_embeds.dtype
        hides_padding_alone = is_of_pairs and attention_mask.shape[2] == 1
        if dtype in self.varlen_dtypes and hides_padding_alone and attention == "sdpa":
            kwargs["key_ends"], attention_mask = sequence_ends(attention_mask), None
        elif is_of_pairs and attention_mask.dtype == torch.bool and attention in ("eager", "sdpa"):
            # These kernels add a mask to the scores. Torch's would make it from bools in every layer.
            if attention == "eager":
                lowest = torch.finfo(dtype).min
                attention_mask = torch.zeros_like(attention_mask, dtype=dtype).masked_fill_(
                    ~attention_mask, lowest
                )
            elif "shared" not in kwargs:
                attention_mask = mask_to_add(attention_mask, dtype)
        # With a cache, each layer writes into a buffer of its own, at columns that change from block to block. Torch
        # would compile every layer anew for each of them.
        is_eager = self.is_compiled and past_key_values is not None
        with torch.compiler.set_stance("force_eager") if is_eager else nullcontext():
            return super().forward(
                input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, **kwargs
            )

    def _pairs_of_blocks(self, attention_mask: Tensor, num_queries: int) -> Tensor:
        """(B, 1, Q, K) bool, which of the last Q columns sees which column, by blocks of the real tokens.

        attention_mask: (B, K) bool, true on real tokens.
        """
        if self.pattern.has_causal_context:
            # Nothing says which block is being written, so all columns are context, and see no column after them. That
            # is the pattern with blocks of one token.
            ranks = Pattern(block_size=1).blocks(attention_mask)
            return block_causal_mask(ranks[:, -num_queries:], ranks)
        if self.pattern.origin == "completion":
            raise ModelError("its blocks begin where the completion does; pass a mask of pairs (B, 1, Q, K)")
        blocks = self.pattern.blocks(attention_mask)
        return block_causal_mask(blocks[:, -num_queries:], blocks)


class MaskedLM(Checked):
    """Body and output head: `model(input_ids, attention_mask).logits` (B, S, V), as the original returns them.

    With a `shift` of 1, the logits for token i stand at i - 1 here, too; `forward.hidden_states` moves them.
    """

    body_class: type[PreTrainedModel]
    shift: int
    softcap: None = None
    """c, if logits are c * tanh(state @ head / c); None = they are state @ head."""
    _keys_to_ignore_on_load_unexpected = None

    def __init__(self, config: Any) -> None:
        config._experts_implementation = config._experts_implementation or EXPERTS
        PreTrainedModel.__init__(self, config)  # the stock constructor would make a stock body
        check_block_size(config)
        config.check()
        self.model = self.body_class(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        is_shifted = self.shift or self.pattern.has_causal_context
        self.loss_type = "ForCausalLM" if is_shifted else "ForMaskedLM"
        for name in ("router_aux_loss_coef", "num_experts", "num_experts_per_tok"):  # stock code reads these
            setattr(self, name, getattr(config, name, None))
        self.post_init()

    @property
    def pattern(self) -> Pattern:
        """Which tokens attend to which."""
        return self.model.pattern

    def whole_pass(self) -> Tensor:
        """Makes the shortest pass through all weights, the head's too; returns a scalar that depends on all of them."""
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        return self(ids, attention_mask=torch.ones_like(ids, dtype=torch.bool)[None, None]).logits.sum()

    def shortest_pass(self, form: int = 0) -> Tensor:
        """The last hidden states of a pass over one token; if autograd is on, they have a graph through all layers.

        form: which pass, of `forms` that call the layers in different ways.
        """
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        embedded = self.get_input_embeddings()(ids)
        if torch.is_grad_enabled() and not embedded.requires_grad:
            # The weights may be frozen, and adapters off at present.
            embedded.requires_grad_()
        pairs = torch.ones_like(ids, dtype=torch.bool)[None, None]
        return self.base_model(inputs_embeds=embedded, attention_mask=pairs).last_hidden_state

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves and casts as torch does, except that buffers keep their type.

        The buffers are frequencies of positions and the bias of a router's choice, float32 in a model of any type.
        """
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = self.get_buffer(name)
            if after.dtype != buffer.dtype:
                owner, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(owner), leaf, buffer.to(after.device))
        return self
