"""What a guest pays, in instructions, for the work that the host does for it.

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
# The arguments of the call are locals 0, 1, ... Shifting right by 6 divides by 64, and by 7 divides by 128.
PER = {
    # Local 1 is the number of bytes.
    "random_get": "(i64.shr_u (i64.extend_i32_u (local.get 1)) (i64.const 6))",
    # Local 1 is the address of the first buffer's entry: its address, four bytes, then its length.
    "fd_read": "(i64.shr_u (i64.load32_u offset=4 (local.get 1)) (i64.const 6))",
    "fd_pread": "(i64.shr_u (i64.load32_u offset=4 (local.get 1)) (i64.const 6))",
    # Local 0 is the address of a list of subscriptions, 48 bytes each, and local 2 their number. In the last one, the
    # time to wait, in ns, stands behind 24 bytes.
    "poll_oneoff": """(i64.shr_u (i64.load offset=24 (i32.add (local.get 0)
        (i32.mul (i32.const 48) (i32.sub (local.get 2) (i32.const 1))))) (i64.const 7))""",
}
_BURN = f"""(func $burn (param $thousands i64) (loop $again {"(drop (i32.const 0))" * 1000}
    (local.set $thousands (i64.sub (local.get $thousands) (i64.const 1)))
    (br_if $again (i64.gt_s (local.get $thousands) (i64.const 0)))))"""
"""A function that burns fuel: a thousand instructions without an effect, again and again.

Fuel counts all of them, but the compiler leaves them out of the machine code, so that a toll takes next to no time.
"""
_Linker = wasmtime.Linker


class Linker(_Linker):
    """Links the interpreter with the host's functions, and puts the toll in between, in two modules: front and gate.

    The guest calls the front, the front calls the gate through a table, and the gate burns the fuel and calls the host.
    The guest needs the front to be made, so the front comes first, with an empty table. The gate needs the guest's
    memory, because the host writes its answers into the memory of its caller; so it comes last, and fills the table.
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
    # The parts of the modules as text; imports must stand before all else.
    front = [f'(table (export "table") {len(calls)} funcref)']
    gate_imports: list[str] = []
    payers = " ".join(f"$pay_{call.name}" for call in calls)
    gate = ['(export "memory" (memory 0))', _BURN, f"(elem (i32.const 0) {payers})"]
    for place, call in enumerate(calls):
        params, results = (" ".join(map(str, types)) for types in (call.type.params, call.type.results))
        signature = f"(param {params}) (result {results})"
        arguments = " ".join(f"(local.get {i})" for i in range(len(call.type.params)))
        indirect_call = f"(call_indirect {signature} {arguments} (i32.const {place}))"
        front.append(f'(func (export "{call.name}") {signature} {indirect_call})')
        gate_imports.append(f'(import "{WASI}" "{call.name}" (func ${call.name} {signature}))')
        fixed_toll = TOLLS.get(call.name, TOLLS.get(call.name.partition("_")[0], TOLL))
        toll = f"(call $burn (i64.add (i64.const {fixed_toll}) {PER.get(call.name, '(i64.const 0)')}))"
        gate.append(f"(func $pay_{call.name} {signature} {toll} (call ${call.name} {arguments}))")
    gate_imports.append('(import "toll" "memory" (memory 0)) (import "toll" "table" (table 0 funcref))')
    front_module = wasmtime.Module(engine, f"(module {' '.join(front)})")
    gate_module = wasmtime.Module(engine, f"(module {' '.join(gate_imports + gate)})")
    return front_module, gate_module
