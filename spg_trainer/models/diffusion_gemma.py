"""DiffusionGemma on its stock class: an encoder reads clean text from left to right, a decoder refines canvases.

A canvas is a block of the completion. Encoder and decoder share their weights. The decoder's tokens see all of their
own canvas, and the keys and values that the encoder computed of the text before it; sliding layers see the last
`sliding_window - 1` columns of that text. A hidden token is shown as a token drawn uniformly from the vocabulary
(`noise` "uniform"), not as [MASK].

`canvas_states` computes all canvases of all corrupted copies in one pass of the decoder, and reads each text once.
Checked against the stock `generate`, which computes one canvas after the other.

Axes: S corrupted copies of r texts; W columns of a text with its prompt, of which n are asked for in each copy; C
places of a canvas, K canvases of a copy in a pass; D width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, DynamicCache
from transformers.models import diffusion_gemma as stock
from transformers.models.diffusion_gemma.modeling_diffusion_gemma import (
    DiffusionGemmaRMSNorm,
    DiffusionGemmaTextRouter,
)
from transformers.utils.hub import cached_file

from spg_trainer.architecture.head import head_logits
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ModelError
from spg_trainer.models.body import EXPERTS, Checked, base_of_adapter, mix_in
from spg_trainer.models.families import BY_ARCHITECTURE, Family
from spg_trainer.models.unread import Unread

ROWS_OF_SOFT_EMBEDDINGS = 1024
"""For how many places at once the probabilities of the whole vocabulary are computed, for self-conditioning."""

VISION = (r"\.vision_tower\.", r"\.embed_vision\.")
"""Patterns of the names of tensors that only images need."""
KeyValues = list[tuple[Tensor, Tensor]]
"""The encoder's keys and values of each layer, (r, heads, columns, head_dim) each."""


class CanvasConfig(stock.DiffusionGemmaConfig):
    """The stock configuration, which also has the names that the trainer reads of every family.

    Sizes are those of the text model. A config.json is read and written as it is.
    """

    family = Family(
        "diffusion_gemma", "DiffusionGemmaForBlockDiffusion", stock.DiffusionGemmaForBlockDiffusion
    )
    model_class: ClassVar[type]
    noise = "uniform"
    origin = "completion"
    context = "encoder"
    dense_beside_experts = True
    freezes_router = True
    """Whether routers are trained only with --train-router."""
    lora_path = r".*\.(decoder|encoder\.language_model)\.layers\.\d+\.(self_attn|mlp)"
    """A regular expression of the modules whose linear layers may have adapters: not those of self-conditioning."""
    mask_token_id = None
    mask_words = ()
    text_ends = ("<eos>",)
    turn_ends = ("<|eot_id|>", "<|tool_response>", "<turn|>")
    """The last one that the vocabulary has is put after completions that are taught."""

    @property
    def block_size(self) -> int:
        """Tokens of a canvas."""
        return self.canvas_length

    @property
    def num_key_value_heads(self) -> int:
        """Key-value heads of the first layer; other layers may have another number."""
        return self.text_config.per_layer_config[0].num_key_value_heads

    @property
    def keys_of_layers(self) -> int:
        """Width of the keys of all heads in all layers together; layers differ in both."""
        layers = self.text_config.per_layer_config
        return sum(layer.num_key_value_heads * layer.head_dim for layer in layers)

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for names that are not there.
        if name in _OF_TEXT and "text_config" in self.__dict__:
            return getattr(self.__dict__["text_config"], _OF_TEXT[name])
        raise AttributeError(f"{type(self).__name__} has no {name!r}", name=name)

    @classmethod
    def register(cls) -> None:
        """Makes `load_model` and the Auto classes open such a model by the classes of this file."""
        BY_ARCHITECTURE[cls.family.architecture] = cls
        AutoConfig.register(cls.model_type, cls, exist_ok=True)
        for auto in (AutoModelForCausalLM, AutoModelForMaskedLM):
            auto.register(cls, cls.model_class, exist_ok=True)

    def check(self) -> None:
        """Nothing: the stock configuration checks its values itself."""


_OF_TEXT = {
    name: name
    for name in (
        "hidden_size intermediate_size num_hidden_layers num_attention_heads vocab_size "
        "max_position_embeddings eos_token_id bos_token_id pad_token_id moe_intermediate_size sliding_window"
    ).split()
} | {"num_experts_per_tok": "top_k_experts", "num_local_experts": "num_experts"}
"""{name that the trainer reads: its name in the configuration of the text model}."""


class ExactNorm:
    """The stock norm, except that a float64 model is not rounded to float32 on the way."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """hidden_states (..., D) in any dtype; returns the same shape and dtype."""
        if hidden_states.dtype != torch.float64:
            return super().forward(hidden_states)
        normed = self._norm(hidden_states)
        return normed * self.weight if self.with_scale else normed


class ExactRouter:
    """The stock router, except that a float64 model is not rounded to float32 on the way."""

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """hidden_states (n, D); returns probabilities (n, E), and weights and numbers of the chosen experts (n, k)."""
        if hidden_states.dtype != torch.float64:
            return super().forward(hidden_states)
        normed = self.norm(hidden_states) * self.scale * self.scalar_root_size
        probabilities = self.proj(normed).softmax(-1)
        weights, index = probabilities.topk(self.config.top_k_experts, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        return probabilities, weights * self.per_expert_scale[index], index


class SharedLayer(nn.Module):
    """A layer of the encoder that computes by the decoder's, with which it shares its weights.

    Processes divide a layer as one module. Only the factor of what it returns is the encoder's own.
    """

    def __init__(self, written: nn.Module, layer_scalar: Tensor) -> None:
        super().__init__()
        self.layer_scalar = nn.Buffer(layer_scalar)
        self.written = (written,)  # in a tuple, so that its weights have the decoder's name alone

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """As the encoder's own layer, which is never checkpointed: its keys are written once."""
        (written,) = self.written
        checkpoints, written.gradient_checkpointing = written.gradient_checkpointing, False
        try:
            return written(hidden_states, layer_scalar=self.layer_scalar, **kwargs)
        finally:
            written.gradient_checkpointing = checkpoints


class ReadingToo:
    """A layer of the decoder that also computes the encoder's (`SharedLayer`)."""

    def forward(self, hidden_states: Tensor, layer_scalar: Tensor | None = None, **kwargs: Any) -> Tensor:
        """As the layer's own. layer_scalar: that of the encoder's layer, whose pass it is; None = the decoder's."""
        if layer_scalar is None:
            return super().forward(hidden_states, **kwargs)
        own, self.layer_scalar, self.self_attn.reads = self.layer_scalar, layer_scalar, True
        try:
            return super().forward(hidden_states, **kwargs)
        finally:
            self.layer_scalar, self.self_attn.reads = own, False


class KeepingKeys:
    """Attention of the decoder that also computes the encoder's, which keeps its keys and values."""

    reads = False

    def append_to_cache(self, past_key_values: Any, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """As the decoder's own; while the encoder reads, as the encoder's."""
        if self.reads:
            return past_key_values.update(keys, values, self.layer_idx)
        return super().append_to_cache(past_key_values, keys, values)


READS, DECODES, READS_AND_DECODES, READS_AND_DECODES_TWICE = range(4)
"""The forms of a pass. In the last one, the decoder predicts what its second pass is conditioned on."""


class DiffusionGemmaForBlockDiffusion(Checked, stock.DiffusionGemmaForBlockDiffusion):
    """The stock class for text alone, with one pass for all canvases; the router is frozen unless one asks for it.

    It has no vision tower. That of the model's files is not read, and saved with the model as it is (`unread`).
    """

    config_class = CanvasConfig
    noise = "uniform"
    """What stands at a hidden place."""
    shift = 0
    _supports_flash_attn = False
    _supports_flex_attn = False
    _keys_to_ignore_on_load_unexpected = VISION
    layers_at = "model.decoder.layers"
    forms = 4
    """A pass of the encoder, a pass of the decoder, and one of the encoder and then one or two of the decoder."""
    passes: tuple[Callable[[int], None], Callable[[Tensor], None]] | None = None
    """What to call before a pass, with its form, and after it with the last hidden states, where processes make their
    passes together (`shard.Lockstep`); None = each makes its own."""
    _is_inside_pass = False
    generate = stock.DiffusionGemmaForBlockDiffusion.generate

    def __init__(self, config: Any) -> None:
        if config.text_config.num_experts is None:
            raise ModelError("config.json has num_experts = null: a DiffusionGemma has experts in each layer")
        config._experts_implementation = config._experts_implementation or EXPERTS
        super().__init__(config)
        del self.model.encoder.vision_tower, self.model.encoder.embed_vision
        for module in self.modules():
            if isinstance(module, DiffusionGemmaRMSNorm):
                mix_in(ExactNorm, module)
            elif isinstance(module, DiffusionGemmaTextRouter):
                mix_in(ExactRouter, module)
        freeze(self)
        # A tensor or a layer that both have gets its name from the first, as in the model's files.
        self.model._modules["encoder"] = self.model._modules.pop("encoder")

    def train_router(self) -> None:
        """Makes the routers trained, too (--train-router)."""
        for module in self.modules():
            if isinstance(module, DiffusionGemmaTextRouter):
                module.requires_grad_(True)

    def share_adapters(self) -> None:
        """Makes the encoder multiply by the decoder's adapters: it takes over its adapted layers.

        The weights below them are the same tensors anyway. So one adapter acts in both passes, as in the published
        trainers, and can be merged into the weights; two could not.
        """
        for read, written in zip(
            self.model.encoder.language_model.layers, self.model.decoder.layers, strict=True
        ):
            for part in ("self_attn", "mlp"):
                for name, layer in getattr(written, part).named_children():
                    if hasattr(layer, "lora_A"):
                        setattr(getattr(read, part), name, layer)

    def share_layers(self) -> None:
        """Makes the encoder compute by the decoder's layers, so that processes can divide them (`shard.divide`)."""
        encoder = self.model.encoder.language_model
        for layer in self.model.decoder.layers:
            mix_in(ReadingToo, layer)
            mix_in(KeepingKeys, layer.self_attn)
        encoder.layers = nn.ModuleList(
            SharedLayer(written, read.layer_scalar)
            for written, read in zip(self.model.decoder.layers, encoder.layers, strict=True)
        )
        self.all_tied_weights_keys = {
            name: other
            for name, other in self.all_tied_weights_keys.items()
            if not name.startswith("model.encoder.language_model.layers.")
        }

    @property
    def ep_plan(self) -> dict[str, str]:
        """{pattern of a name: how transformers divides it among processes}, of the experts, as in its text model.

        Its plan for attention and for the dense part is about processes that have the same tokens.
        """
        plan = self.config.text_config.base_model_ep_plan
        return {f"model.decoder.{name}": style for name, style in plan.items() if ".experts" in name}

    @contextmanager
    def _one_pass(self, form: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """Inside, one pass of a form. Calls with its hidden states what watches for them; returns them.

        A pass within a pass is part of it.
        """
        if self.passes is None or self._is_inside_pass:
            yield lambda states: states
            return
        before, after = self.passes
        before(form)
        self._is_inside_pass = True

        def end(states: Tensor) -> Tensor:
            after(states)
            return states

        try:
            yield end
        finally:
            self._is_inside_pass = False

    def whole_pass(self) -> Tensor:
        """As `MaskedLM.whole_pass`: a pass of encoder and decoder."""
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        out = self(input_ids=ids, decoder_input_ids=ids)
        return out.logits.sum() + out.encoder_last_hidden_state.sum()

    def shortest_pass(self, form: int = 0) -> Tensor:
        """As `MaskedLM.shortest_pass`."""
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        real = torch.ones_like(ids, dtype=torch.bool)
        embeddings = self.model.encoder.language_model.embed_tokens, self.model.decoder.embed_tokens
        hooks = [module.register_forward_hook(_with_gradient) for module in embeddings]
        try:
            if form == DECODES:
                layers = self.config.text_config.per_layer_config
                dtype = self.model.decoder.layers[0].input_layernorm.weight.dtype
                nothing = [
                    torch.zeros(
                        (1, layer.num_key_value_heads, 1, layer.head_dim), dtype=dtype, device=self.device
                    )
                    for layer in layers
                ]
                return self.decode(ids[None], ids + 1, real, [(keys, keys) for keys in nothing])
            context, cached = self.encode(ids, real)
            if form == READS:
                return context
            if form == READS_AND_DECODES_TWICE:
                with torch.no_grad():
                    self.decode(ids[None], ids + 1, real, cached)
            return self.decode(ids[None], ids + 1, real, cached) + 0 * context
        finally:
            for hook in hooks:
                hook.remove()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; raises ModelError for weights that do not fit config.json."""
        name = pretrained_model_name_or_path
        opened = super().from_pretrained(name, *args, **kwargs)
        model = opened[0] if isinstance(opened, tuple) else opened
        freeze(model)
        # In the Hub's cache, the files of a model are in one folder.
        options = {key: kwargs[key] for key in ("revision", "cache_dir", "subfolder") if key in kwargs}
        file = cached_file(base_of_adapter(name) or name, "config.json", local_files_only=True, **options)
        model.remember_unread(Path(file).parent)
        return opened

    def remember_unread(self, folder: Path) -> None:
        """Notes which tensors of a model's folder are saved with this model as they are: those of its vision tower."""
        self.unread = Unread.of(folder, VISION)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """As in transformers, with the vision tower that the model's files had."""
        for file in Path(save_directory).glob("model*.safetensors"):
            file.unlink()  # `unread` may be in one of them, and would change if it were overwritten
        kwargs.setdefault("state_dict", self.state_dict())
        kwargs["state_dict"] = {**kwargs["state_dict"], **self.unread}
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def can_generate(cls) -> bool:
        """True: its generation_config.json, which says how it decodes, is read and written."""
        return True

    def _check_and_adjust_attn_implementation(
        self, attn_implementation: str | None, *args: Any, **kwargs: Any
    ) -> str:
        if attn_implementation and attn_implementation not in ("sdpa", "eager"):
            raise ModelError(
                f"a DiffusionGemma cannot attend by {attn_implementation!r}, whose sliding window is another one than "
                "its decoder's; use attn_implementation='sdpa' or 'eager'"
            )
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """As in transformers, always without re-entrance; the encoder's layers keep their activations.

        Raises ModelError if re-entrance is asked for: it would go backward through the encoder twice.
        """
        if (gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ModelError(
                "a DiffusionGemma cannot be checkpointed with re-entrance, which goes backward through its encoder "
                "twice; use use_reentrant=False"
            )
        super().gradient_checkpointing_enable({"use_reentrant": False}, **kwargs)

    @property
    def pattern(self) -> Pattern:
        """Which tokens attend to which."""
        return Pattern(self.config.canvas_length, CanvasConfig.origin, CanvasConfig.context)

    @property
    def softcap(self) -> float:
        """c: logits are c * tanh(state @ head / c)."""
        return self.config.text_config.final_logit_softcapping

    def encode(self, ids: Tensor, real: Tensor, before: KeyValues | None = None) -> tuple[Tensor, KeyValues]:
        """(last hidden states (r, w, D) of the encoder, its keys and values of all columns), for w further columns.

        ids: (r, w) int64. real: (r, W) bool, of all columns so far, false on padding, which stands on the left.
        before: the keys and values of the columns before these; None = there are none.
        """
        cache = DynamicCache()  # without a configuration it keeps the columns before a sliding window, too
        for layer, (keys, values) in enumerate(before or ()):
            cache.update(keys, values, layer)
        positions = (real.long().cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        masks = self._encoder_masks(real, ids.shape[1])
        with self._one_pass(READS) as end:
            states = end(
                self.model.encoder.language_model(
                    input_ids=ids, attention_mask=masks, position_ids=positions, past_key_values=cache
                ).last_hidden_state
            )
        return states, [(layer.keys, layer.values) for layer in cache.layers]

    def _encoder_masks(self, real: Tensor, width: int) -> dict[str, Tensor]:
        """{type of a layer: (r, 1, w, W)}, which columns each of the last `width` columns sees."""
        column = torch.arange(real.shape[1], device=real.device)
        query, key = column[-width:, None], column[None]
        # Padding sees itself, because attention to nothing at all would give NaN.
        seen = ((key <= query) & real[:, None]) | (key == query)
        near = key > query - self.config.text_config.sliding_window
        return self._masks(seen, near)

    def _masks(self, seen: Tensor, near: Tensor) -> dict[str, Tensor]:
        """{type of a layer: its mask as the kernel takes it}, from what full layers see, and what sliding ones may."""
        masks = {"full_attention": seen.unsqueeze(1), "sliding_attention": (seen & near).unsqueeze(1)}
        if self.config._attn_implementation != "eager":
            return masks
        dtype = self.lm_head.weight.dtype
        return {
            name: torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
                ~mask, torch.finfo(dtype).min
            )
            for name, mask in masks.items()
        }

    def decode(
        self,
        canvases: Tensor,
        starts: Tensor,
        real: Tensor,
        cached: KeyValues,
        soft: Tensor | None = None,
    ) -> Tensor:
        """Last hidden states (S, K * C, D) of the decoder, final norm applied, of K canvases in each of S copies.

        canvases: (S, K, C) int64, tokens. starts: (S, K) int64, the column where each canvas begins; it sees the real
        columns before. real: (S, W) bool, of the columns in `cached`. cached: the encoder's keys and values (S, ...).
        soft: (S, K * C, D), soft embeddings for self-conditioning; None = zeros, as in the first step of decoding.
        """
        copies, count, size = canvases.shape
        columns = torch.arange(real.shape[1], device=real.device)
        start_of_token = starts.repeat_interleave(size, 1)[:, :, None]  # (S, K * C, 1)
        seen = (columns < start_of_token) & real[:, None]
        near = columns >= start_of_token - (self.config.text_config.sliding_window - 1)
        number = torch.arange(count, device=real.device).repeat_interleave(size)
        own = (number[:, None] == number).expand(copies, -1, -1)
        masks = self._masks(torch.cat([seen, own], -1), torch.cat([near, own], -1))
        padding = real.shape[1] - real.sum(-1, keepdim=True)
        positions = (starts - padding)[:, :, None] + torch.arange(size, device=real.device)
        layers = [SimpleNamespace(keys=keys, values=values) for keys, values in cached]
        with self._one_pass(DECODES) as end, self._conditioned_on(soft):
            return end(
                self.model.decoder(
                    decoder_input_ids=canvases.flatten(1),
                    past_key_values=SimpleNamespace(layers=layers, is_compileable=False),
                    decoder_attention_mask=masks,
                    decoder_position_ids=positions.flatten(1),
                ).last_hidden_state
            )

    @contextmanager
    def _conditioned_on(self, soft: Tensor | None) -> Iterator[None]:
        """Inside, the decoder's self-conditioning reads these soft embeddings; None = zeros."""
        if soft is None:
            yield
            return
        module = self.model.decoder.self_conditioning
        hook = module.register_forward_pre_hook(lambda _, arguments: (arguments[0], soft))
        try:
            yield
        finally:
            hook.remove()

    def logits(self, states: Tensor) -> Tensor:
        """Logits (..., V) in float32, or float64 if the model is, from hidden states (..., D)."""
        if self.float32_logits:
            logits = head_logits(states, self.lm_head.weight, in_float32=True)
        else:
            logits = self.lm_head(states)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return self.softcap * torch.tanh(logits / self.softcap)

    def soft_embeddings(self, logits: Tensor) -> Tensor:
        """The mean embedding (..., D) under the probabilities of logits (..., V)."""
        embedding = self.model.decoder.embed_tokens
        dtype = torch.promote_types(embedding.weight.dtype, torch.float32)
        probabilities = logits.softmax(-1, dtype=dtype).to(embedding.weight.dtype)
        return probabilities @ embedding.weight * embedding.embed_scale.to(embedding.weight.dtype)

    @torch.no_grad()
    def _soft_embeddings_of(self, states: Tensor) -> Tensor:
        """`soft_embeddings` of the logits of hidden states (..., D), for some places at a time."""
        parts = states.reshape(-1, states.shape[-1]).split(ROWS_OF_SOFT_EMBEDDINGS)
        return torch.cat([self.soft_embeddings(self.logits(part)) for part in parts]).view_as(states)

    def canvas_states(
        self,
        noisy: Tensor,
        clean: Tensor,
        real: Tensor,
        keep: Tensor,
        start: int,
        *,
        from_context: Tensor | None = None,
        conditioned: Tensor | None = None,
    ) -> Tensor:
        """The hidden states (S, n, D) from which the logits of the wanted tokens are computed.

        Each canvas is computed as in decoding: after the clean text before it. Equal texts are read once.

        noisy, clean: (S, W) int64, the columns as a token's own canvas shows them, and as later canvases see them.
        real: (S, W) bool, false on padding, which stands on the left. keep: (S, n) int64, the columns of the wanted
        tokens. start: the completion's first column. from_context: (S, n) bool, tokens that the encoder predicts from
        the clean text before them; None = none. conditioned: (S, n) bool, tokens whose canvas is conditioned on the
        prediction of a first pass, which has no gradient; None = none.
        """
        wanted = torch.ones_like(keep, dtype=torch.bool) if from_context is None else ~from_context
        form = READS
        if bool(wanted.any()):
            is_conditioned = conditioned is not None and bool((conditioned & wanted).any())
            form = READS_AND_DECODES_TWICE if is_conditioned else READS_AND_DECODES
        with self._one_pass(form) as end:
            return end(
                self._canvas_states(noisy, clean, real, keep, start, wanted, from_context, conditioned)
            )

    def _canvas_states(
        self,
        noisy: Tensor,
        clean: Tensor,
        real: Tensor,
        keep: Tensor,
        start: int,
        wanted: Tensor,
        from_context: Tensor | None,
        conditioned: Tensor | None,
    ) -> Tensor:
        """`canvas_states`. wanted: (S, n) bool, the wanted tokens that the decoder predicts."""
        size, copies = self.config.canvas_length, len(noisy)
        canvas_of_kept = (keep - start).div(size, rounding_mode="floor")  # (S, n)
        # The encoder reads the columns that any wanted canvas sees.
        last = start + int(canvas_of_kept.max()) * size
        width = noisy.shape[1] if from_context is not None and bool(from_context.any()) else last
        text, first_copy = _same_texts(clean[:, :width], real[:, :width])
        context, cached = self.encode(clean[first_copy, :width], real[first_copy, :width])
        result = context.new_zeros(*keep.shape, context.shape[-1])
        if bool((~wanted).any()):
            before = (keep - 1).clamp(
                max=width - 1
            )  # the encoder may have read too few columns only for others
            states_before = context[text].gather(1, before.unsqueeze(-1).expand(-1, -1, context.shape[-1]))
            result = torch.where(wanted.unsqueeze(-1), result, states_before)
        rows = wanted.any(-1).nonzero()[:, 0]  # the copies that need the decoder
        if not len(rows):
            return result
        # The K canvases of each copy that hold wanted tokens, filled up with others.
        number = (noisy.shape[1] - start) // size
        holds = torch.zeros(len(rows), number, dtype=torch.bool, device=noisy.device)
        holds.scatter_(1, canvas_of_kept[rows], True)
        count = int(holds.sum(-1).max())
        chosen = (~holds).to(torch.int8).argsort(dim=-1, stable=True)[:, :count]  # (b, K)
        starts = start + chosen * size
        places = starts[:, :, None] + torch.arange(size, device=noisy.device)
        canvases = noisy[rows].gather(1, places.flatten(1)).view_as(places)
        seen = min(width, last)
        of_rows = text[rows]
        cached = [(keys[of_rows][:, :, :seen], values[of_rows][:, :, :seen]) for keys, values in cached]
        arguments = (canvases, starts, real[rows][:, :seen], cached)
        soft = None
        if conditioned is not None and bool((conditioned & wanted)[rows].any()):
            with torch.no_grad():
                soft = self._soft_embeddings_of(self.decode(*arguments))
            of_canvas = torch.zeros_like(holds, dtype=torch.uint8)
            of_canvas.scatter_reduce_(1, canvas_of_kept[rows], (conditioned & wanted)[rows].byte(), "amax")
            gate = of_canvas.gather(1, chosen).repeat_interleave(size, 1)
            soft = soft * gate[:, :, None].to(soft.dtype)
        states = self.decode(*arguments, soft)
        # Where each wanted token stands among the K * C columns of its copy.
        order = torch.zeros_like(holds, dtype=torch.int64)
        order.scatter_(1, chosen, torch.arange(count, device=noisy.device).expand_as(chosen))
        canvas, place = canvas_of_kept[rows], (keep[rows] - start) % size
        column = order.gather(1, canvas) * size + place
        decoded = states.gather(1, column.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        if len(rows) < copies:
            everywhere = torch.zeros_like(result).index_copy(0, rows, decoded)
        else:
            everywhere = decoded
        if self.passes is not None:
            # The backward passes of all processes go through the encoder's last layer, which not every loss needs.
            result = result + 0 * context.sum()
        return torch.where(wanted.unsqueeze(-1), everywhere, result)


def _with_gradient(module: nn.Module, arguments: Any, embedded: Tensor) -> Tensor:
    """A hook that makes an embedding the beginning of a graph if its weight is frozen."""
    if torch.is_grad_enabled() and not embedded.requires_grad:
        embedded.requires_grad_()
    return embedded


def _same_texts(clean: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """((S,) the number of each copy's text, (r,) the first copy of each text). clean, real: (S, w)."""
    texts, text = torch.unique(clean.masked_fill(~real, -1), dim=0, return_inverse=True)
    numbers = torch.arange(len(text), device=text.device)
    first = numbers.new_full((len(texts),), len(text)).scatter_reduce(0, text, numbers, "amin")
    return text, first


def freeze(model: nn.Module) -> None:
    """Freezes the routers, so that rollout and update route alike."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if ".router." in name:
            parameter.requires_grad_(False)


CanvasConfig.model_class = DiffusionGemmaForBlockDiffusion
