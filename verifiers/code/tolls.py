"""What a guest pays, in instructions, for what the host does for it.

Fuel counts instructions of the guest alone, so a loop that reads a file or waits would be ended by the clock. A guest's
calls of the host therefore pass through a module of WebAssembly that burns fuel and then makes the call.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import wasmtime

WASI = "wasi_snapshot_preview1"
TOLLS = {
    "clock_time_get": 2_000,
    "random_get": 2_000,
    "poll": 1_000_000,
    "path": 500_000,
    "fd": 50_000,
    "fd_readdir": 1_000_000,
}
"""Instructions for a call, by its name or the first word of it: about as many as run while the host answers."""
PER_NANOSECOND = 10  # of a wait
PER_BYTE = 16  # instructions more for a byte that is read or random
_ROUND = 1_000  # instructions of a round of the loop that burns them, which take next to no time
_Linker = wasmtime.Linker


class Linker(_Linker):
    """Links the interpreter with what the host does for it, and the toll between them.

    The front is made before the guest, which calls it; the gate after it, because the host answers into the memory of
    its caller. A table leads from one to the other.
    """

    def instantiate(self, store: Any, module: wasmtime.Module) -> wasmtime.Instance:
        toll = modules(self.engine, module)
        if toll is None:
            return super().instantiate(store, module)
        front = wasmtime.Instance(store, toll[0], [])
        linker = _Linker(self.engine)
        linker.define_instance(store, WASI, front)
        linker.define(store, "host", "call", self.get(store, "host", "call"))
        guest = linker.instantiate(store, module)
        self.define_instance(store, "toll", front)
        self.define(store, "toll", "memory", guest.exports(store)["memory"])
        super().instantiate(store, toll[1])
        return guest


@cache
def modules(
    engine: wasmtime.Engine, guest: wasmtime.Module
) -> tuple[wasmtime.Module, wasmtime.Module] | None:
    """(front, gate) for a guest; None for a module that is none, because it does not call `host`."""
    imports = guest.imports
    if not any(one.module == "host" for one in imports):
        return None
    calls = [one for one in imports if one.module == WASI]
    front = [f'(table (export "table") {len(calls)} funcref)']
    wasi, gate = [], [f"(elem (i32.const 0) {' '.join(f'$pay_{one.name}' for one in calls)})"]
    for place, one in enumerate(calls):
        params, results = (" ".join(map(str, kinds)) for kinds in (one.type.params, one.type.results))
        kind = f"(param {params}) (result {results})"
        given = " ".join(f"(local.get {i})" for i in range(len(one.type.params)))
        front.append(
            f'(func (export "{one.name}") {kind} (call_indirect {kind} {given} (i32.const {place})))'
        )
        wasi.append(f'(import "{WASI}" "{one.name}" (func ${one.name} {kind}))')
        before, after = _toll(one.name, len(one.type.params))
        gate.append(f"(func $pay_{one.name} {kind} {before} (call ${one.name} {given}) {after})")
    wasi.append('(import "toll" "memory" (memory 0)) (import "toll" "table" (table 0 funcref))')
    burn = f"""(export "memory" (memory 0)) (func $burn (param $left i64) (loop $again {"(drop (i32.const 0))" * _ROUND}
        (local.set $left (i64.sub (local.get $left) (i64.const {_ROUND})))
        (br_if $again (i64.gt_s (local.get $left) (i64.const 0)))))"""
    first, second = (f"(module {' '.join(text)})" for text in (front, [*wasi, burn, _WAIT, *gate]))
    return wasmtime.Module(engine, first), wasmtime.Module(engine, second)


# The last subscription of a `poll_oneoff` is its clock, if it has one; a wait until a time of day takes all fuel.
_WAIT = f"""(func $wait (param $last i32) (result i64) (local $time i64)
    (if (i32.load8_u offset=8 (local.get $last)) (then (return (i64.const 0))))
    (if (i32.load16_u offset=40 (local.get $last)) (then (return (i64.const {1 << 50}))))
    (local.set $time (i64.load offset=24 (local.get $last)))
    (i64.mul (i64.const {PER_NANOSECOND}) (select (local.get $time) (i64.const {1 << 50})
        (i64.lt_u (local.get $time) (i64.const {1 << 50})))))"""


def _toll(name: str, arguments: int) -> tuple[str, str]:
    """What burns fuel before and after a call, as WebAssembly."""
    amount = TOLLS.get(name, TOLLS.get(name.partition("_")[0], TOLLS["fd"]))
    before, after = f"(call $burn (i64.const {amount}))", ""
    pay = f"(call $burn (i64.mul (i64.const {PER_BYTE}) %s))"
    if name == "random_get":
        before += pay % "(i64.extend_i32_u (local.get 1))"
    if name == "poll_oneoff":
        last = "(i32.add (local.get 0) (i32.mul (i32.const 48) (i32.sub (local.get 2) (i32.const 1))))"
        before += f"(call $burn (call $wait {last}))"
    if name in ("fd_read", "fd_pread"):  # the last argument says where the host tells how many it read
        after = pay % f"(i64.load32_u (local.get {arguments - 1}))"
    return before, after
