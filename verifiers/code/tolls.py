"""Charges a guest instructions for work that the host does for it.

Fuel only counts instructions of the guest. So a loop that reads a file or waits would be ended by the clock, not by
fuel. Therefore a guest's calls of the host pass through a WebAssembly module that burns fuel and then makes the call.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import wasmtime

WASI = "wasi_snapshot_preview1"
TOLLS = {"clock_time_get": 2, "random_get": 2, "poll": 1000, "path": 500, "fd_readdir": 5000}
"""{name of a call, or its first word: thousands of instructions}: as many as would run while the host answers."""
TOLL = 50  # for any other call
# {name of a call: WebAssembly for more thousands of instructions, one for each 64 bytes asked for or 128 ns of waiting}
PER = {
    "random_get": "(i64.shr_u (i64.extend_i32_u (local.get 1)) (i64.const 6))",
    "fd_read": "(i64.shr_u (i64.load32_u offset=4 (local.get 1)) (i64.const 6))",
    "fd_pread": "(i64.shr_u (i64.load32_u offset=4 (local.get 1)) (i64.const 6))",
    "poll_oneoff": """(i64.shr_u (i64.load offset=24 (i32.add (local.get 0)
        (i32.mul (i32.const 48) (i32.sub (local.get 2) (i32.const 1))))) (i64.const 7))""",  # of the last subscription
}
_BURN = f"""(func $burn (param $thousands i64) (loop $again {"(drop (i32.const 0))" * 1000}
    (local.set $thousands (i64.sub (local.get $thousands) (i64.const 1)))
    (br_if $again (i64.gt_s (local.get $thousands) (i64.const 0)))))"""  # it takes next to no time
_Linker = wasmtime.Linker


class Linker(_Linker):
    """Links the interpreter with the host's functions, and puts the toll in between, in two modules.

    The front is made before the guest, which calls it. The gate is made after the guest, because the host writes its
    answers into the memory of its caller. A table leads from the front to the gate.
    """

    def instantiate(self, store: Any, module: wasmtime.Module) -> wasmtime.Instance:
        toll_modules = modules(self.engine, module)
        if toll_modules is None:
            return super().instantiate(store, module)
        front_module, gate_module = toll_modules
        front = wasmtime.Instance(store, front_module, [])
        linker = _Linker(self.engine)
        linker.define_instance(store, WASI, front)
        linker.define(store, "host", "call", self.get(store, "host", "call"))
        guest = linker.instantiate(store, module)
        self.define_instance(store, "toll", front)
        self.define(store, "toll", "memory", guest.exports(store)["memory"])
        super().instantiate(store, gate_module)
        return guest


@cache
def modules(
    engine: wasmtime.Engine, guest: wasmtime.Module
) -> tuple[wasmtime.Module, wasmtime.Module] | None:
    """(front, gate) for a guest; None for a module that is no guest, because it does not call `host`."""
    imports = guest.imports
    if not any(imported.module == "host" for imported in imports):
        return None
    calls = [imported for imported in imports if imported.module == WASI]
    front, wasi = [f'(table (export "table") {len(calls)} funcref)'], []
    gate = [_BURN, f"(elem (i32.const 0) {' '.join(f'$pay_{call.name}' for call in calls)})"]
    for place, call in enumerate(calls):
        params, results = (" ".join(map(str, types)) for types in (call.type.params, call.type.results))
        signature = f"(param {params}) (result {results})"
        arguments = " ".join(f"(local.get {i})" for i in range(len(call.type.params)))
        indirect_call = f"(call_indirect {signature} {arguments} (i32.const {place}))"
        front.append(f'(func (export "{call.name}") {signature} {indirect_call})')
        wasi.append(f'(import "{WASI}" "{call.name}" (func ${call.name} {signature}))')
        fixed_toll = TOLLS.get(call.name, TOLLS.get(call.name.partition("_")[0], TOLL))
        toll = f"(call $burn (i64.add (i64.const {fixed_toll}) {PER.get(call.name, '(i64.const 0)')}))"
        gate.append(f"(func $pay_{call.name} {signature} {toll} (call ${call.name} {arguments}))")
    wasi.append('(import "toll" "memory" (memory 0)) (import "toll" "table" (table 0 funcref))')
    wasi.append('(export "memory" (memory 0))')
    first, second = (wasmtime.Module(engine, f"(module {' '.join(text)})") for text in (front, wasi + gate))
    return first, second
