"""Columns of a pass divided among the processes of a group (`--sequence-parallel`), after DeepSpeed-Ulysses.

Each of N processes computes 1/N of the columns of the same rows in every layer. Attention alone needs all columns:
there the processes exchange heads for columns, so that each has all columns of 1/N of the heads, and afterwards back
(arXiv 2309.14509, section 3.1). The exchange is exact, whichever columns attend to which.

The columns whose states are wanted are dealt out first, so that each process has an Nth of these, too: the last layer
and the output layer compute no others.

Axes: b rows, S columns, s = S / N of them on a process, rounded up; n wanted tokens; h heads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from spg_trainer import distributed as run

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class DividedColumns:
    """How the columns of a pass are dealt to the processes of a group: in turn, the wanted ones first."""

    group: "ProcessGroup"
    turn: Tensor
    """(b, S) int64, the place of each column in the order of dealing; place t goes to process t % N, as its column
    t // N."""
    own: Tensor
    """(b, s) int64, the columns of this process. If N does not divide S, the last one may be a column that another
    process has, too; nothing attends to it here, and its state is not used."""

    @property
    def size(self) -> int:
        """N, the number of processes of the group."""
        return distributed.get_world_size(self.group)

    def all_columns(self, x: Tensor) -> Tensor:
        """All columns (b, h/N, S, d) of this process's heads, from all heads of its columns, x (b, h, s, d)."""
        b, h, s, d = x.shape
        by_process = _exchanged(x.view(b, self.size, h // self.size, s, d).movedim(1, 0), self.group)
        in_turn = by_process.permute(1, 2, 3, 0, 4).reshape(b, h // self.size, s * self.size, d)
        return in_turn.gather(2, self.turn[:, None, :, None].expand(b, h // self.size, -1, d))

    def own_columns(self, x: Tensor) -> Tensor:
        """All heads (b, h, s, d) of this process's columns, from all columns of its heads, x (b, h/N, S, d).

        A column that this process has only to fill up gets zeros, so this is the transpose of `all_columns`.
        """
        b, h, _, d = x.shape
        s = self.own.shape[1]
        in_turn = x.new_zeros(b, h, s * self.size, d)
        in_turn.scatter_(2, self.turn[:, None, :, None].expand(b, h, -1, d), x)
        by_process = _exchanged(in_turn.view(b, h, s, self.size, d).movedim(3, 0), self.group)
        return by_process.movedim(0, 1).reshape(b, self.size * h, s, d)

    def attend(self, attention: Callable[..., tuple[Tensor, None]], *states: Tensor) -> tuple[Tensor, None]:
        """Attention of this process's columns to all: (the output (b, s, heads, d), None).

        states: queries, keys and values of these columns, each (b, heads, s, d). attention: a function of such tensors
        with all columns of some of the heads, (b, heads / N, S, d).
        """
        output, _ = attention(*(_Exchange.apply(x, self, "all_columns") for x in states))
        return _Exchange.apply(output.transpose(1, 2), self, "own_columns").transpose(1, 2), None


class _Exchange(torch.autograd.Function):
    """`DividedColumns.all_columns` or `own_columns`: each is the gradient of the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: DividedColumns, direction: str) -> Tensor:
        ctx.columns, ctx.direction = columns, direction
        return getattr(columns, direction)(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        back = {"all_columns": "own_columns", "own_columns": "all_columns"}[ctx.direction]
        return getattr(ctx.columns, back)(gradient.contiguous()), None, None


def _exchanged(parts: Tensor, group: "ProcessGroup") -> Tensor:
    """(N, ...): part p is what process p has at this process's place. parts: (N, ...), part p goes to process p."""
    parts = parts.contiguous()
    received = torch.empty_like(parts)
    distributed.all_to_all_single(received, parts, group=group)
    return received


def divide_columns(wanted: Tensor, num_columns: int, group: "ProcessGroup") -> tuple[DividedColumns, int]:
    """(how columns are divided, how many of this process's first columns include all wanted ones that it has).

    wanted: (b, n) int64, columns whose states are wanted; some may be there twice. num_columns: S.
    """
    size, b = distributed.get_world_size(group), len(wanted)
    is_wanted = torch.zeros(b, num_columns, dtype=torch.bool, device=wanted.device).scatter_(1, wanted, True)
    order = (~is_wanted).to(torch.int8).argsort(dim=1, stable=True)
    numbers = torch.arange(num_columns, device=wanted.device).expand_as(order)
    turn = torch.empty_like(order).scatter_(1, order, numbers)
    missing = -num_columns % size
    own = torch.cat([order, order[:, :1].expand(-1, missing)], 1)[:, distributed.get_rank(group) :: size]
    most_wanted = int(is_wanted.sum(1).max())
    return DividedColumns(group, turn, own), -(-most_wanted // size)


def divided_states(
    body: nn.Module,
    group: "ProcessGroup",
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    keep: Tensor,
    **arguments: Any,
) -> Tensor:
    """The last hidden states at the columns `keep` (b, n) of a pass of which each process of a group computes a part.

    All processes of the group call this with the same tensors. Arguments are those of `body.py: Body.forward`; a mask
    of keys (b, S), false on padding, is for full attention. Returns (b, n, D) on each process. Its gradient is summed
    over the processes, so that each may send back that of some of the states.
    """
    columns, num_kept = divide_columns(keep, input_ids.shape[1], group)
    if position_ids is None:
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    if attention_mask is not None and attention_mask.ndim == 2:
        attention_mask = None if attention_mask.all() else attention_mask[:, None, None]
    own_keep = torch.arange(num_kept, device=keep.device).expand(len(keep), -1)
    run.is_inside_pass = True
    own_states = body(
        input_ids.gather(1, columns.own),
        attention_mask,
        position_ids.gather(1, columns.own),
        keep=own_keep,
        columns=columns,
        **arguments,
    ).last_hidden_state
    run.is_inside_pass = True  # a pass in lockstep has ended
    in_turn = _Gathered.apply(own_states, group).permute(1, 2, 0, 3).flatten(1, 2)
    run.is_inside_pass = False
    turn = columns.turn.gather(1, keep)
    return in_turn.gather(1, turn.unsqueeze(-1).expand(-1, -1, in_turn.shape[-1]))


class _Gathered(torch.autograd.Function):
    """x of all N processes, (N, *x.shape); the gradients of all processes are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: "ProcessGroup") -> Tensor:
        ctx.group = group
        return _gathered(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _exchanged(gradient, ctx.group).sum(0), None


def computed_in_shares(work: Callable[[slice], Tensor], count: int, group: "ProcessGroup | None") -> Tensor:
    """The values (count,) of a function, of which each process of a group computes an Nth; group None = all of them.

    work: returns the values at a slice. All processes of the group get all values, and must make the same use of them:
    each sends back the gradient of its own share alone.
    """
    if group is None:
        return work(slice(None))
    size = -(-count // distributed.get_world_size(group))
    start = min(count, distributed.get_rank(group) * size)
    run.is_inside_pass = True
    values = _Shares.apply(work(slice(start, min(count, start + size))), start, size, count, group)
    run.is_inside_pass = False
    return values


class _Shares(torch.autograd.Function):
    """The values (count,) of all processes, from `own` (up to `size`,), those from `start` on."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, start: int, size: int, count: int, group: "ProcessGroup") -> Tensor:
        ctx.own = slice(start, start + len(own))
        padded = own.new_zeros(size)
        padded[: len(own)] = own
        return _gathered(padded, group).flatten()[:count]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        run.is_inside_pass = True
        torch.autograd.Variable._execution_engine.queue_callback(_note_backward_ended)
        return gradient[ctx.own], None, None, None, None


def _note_backward_ended() -> None:
    """Called when a backward pass has ended."""
    run.is_inside_pass = False


def _gathered(x: Tensor, group: "ProcessGroup") -> Tensor:
    """x of all N processes, (N, *x.shape)."""
    return _exchanged(x.expand(distributed.get_world_size(group), *x.shape), group)
