"""The native binding's types. Made from native/xmc.h by tools/native_stub.py; do not edit."""

from typing import Protocol

from _cffi_backend import FFI

class Lib(Protocol):
    XMC_IMAGES_MAX: int
    XMC_IMAGE_BYTES_MAX: int
    XMC_PADS_MAX: int
    XMC_PAD_BYTES_MAX: int
    XMC_STEPS_MAX: int
    XMC_MIXES_MAX: int
    XMC_EXECUTORS_MAX: int
    XMC_PROVOCATIONS_MAX: int
    XMC_SIGNATURES_MAX: int
    XMC_EVENTS_MAX: int
    XMC_EVENT_BYTES: int
    XMC_BUCKETS: int
    XMC_PAD_REACH: int
    XMC_ABI: int
    XMC_OLD: int
    XMC_NEW: int
    XMC_TORN: int
    XMC_STALE: int
    XMC_FAULT: int
    XMC_TRAP: int
    XMC_HANG: int
    XMC_OUTCOMES: int
    XMC_CONCURRENT: int
    XMC_POST: int
    XMC_INTERIOR: int
    XMC_RESUMED: int
    XMC_PHASES: int
    XMC_VIA_SAME: int
    XMC_VIA_ALIAS: int
    XMC_VIA_PROCESS: int
    XMC_VIA_PROCMEM: int
    XMC_VIA_VMWRITEV: int
    XMC_VIA_PTRACE: int
    XMC_VIAS: int
    XMC_STORE_WHOLE: int
    XMC_STORE_QWORD: int
    XMC_STORE_BYTES: int
    XMC_STORE_SPLIT: int
    XMC_STORE_REVERSED: int
    XMC_STORE_SSE16: int
    XMC_STORE_AVX32: int
    XMC_STORE_CMPXCHG16B: int
    XMC_STORE_MOVSB: int
    XMC_STORE_NT: int
    XMC_STORES: int
    XMC_STEP_STORE: int
    XMC_STEP_MFENCE: int
    XMC_STEP_SFENCE: int
    XMC_STEP_LFENCE: int
    XMC_STEP_FLUSH: int
    XMC_STEP_OWN: int
    XMC_STEP_SHARE: int
    XMC_STEP_SERIALIZE: int
    XMC_STEP_MEMBARRIER: int
    XMC_STEP_SIGNAL: int
    XMC_STEP_DELAY: int
    XMC_STEP_AWAIT: int
    XMC_STEP_DIE: int
    XMC_STEP_PUBLISH: int
    XMC_STEP_QUIESCE: int
    XMC_STEP_RELEASE: int
    XMC_STEP_HOP: int
    XMC_STEP_PROTECT: int
    XMC_STEP_REMAP: int
    XMC_STEP_OPS: int
    XMC_PART_ALL: int
    XMC_PART_FIRST: int
    XMC_PART_REST: int
    XMC_PART_FRONT: int
    XMC_PART_BACK: int
    XMC_VALUE_NEW: int
    XMC_VALUE_TRAP: int
    XMC_PROTECT_RW: int
    XMC_PROTECT_RX: int
    XMC_PROTECT_RWX: int
    XMC_PROTECTS: int
    XMC_EXEC_LFENCE: int
    XMC_EXEC_MFENCE: int
    XMC_EXEC_LOCK: int
    XMC_EXEC_SYSCALL: int
    XMC_EXEC_CPUID: int
    XMC_EXEC_SERIALIZE: int
    XMC_EXEC_IRET: int
    XMC_EXEC_FLUSH_HEAD: int
    XMC_EXEC_FLUSH_TAIL: int
    XMC_EXEC_EVICT_TLB: int
    XMC_EXEC_COLD_BRANCHES: int
    XMC_EXEC_MISPREDICT: int
    XMC_EXEC_OPS: int
    XMC_ALWAYS: int
    XMC_ON_CHANGE: int
    XMC_UNTIL_DEADLINE: int
    XMC_UNTIL_FIRST_EVENT: int
    XMC_WITNESS_REAL: int
    XMC_WITNESS_FRONT_FIRST: int
    XMC_WITNESS_BACK_FIRST: int
    XMC_WITNESS_STORES: int
    XMC_FEATURE_SERIALIZE: int
    XMC_FEATURE_FRED: int
    XMC_FEATURE_INVLPGB: int
    XMC_FEATURE_MFENCE_SERIALIZES: int
    XMC_FEATURE_CLFLUSHOPT: int
    XMC_FEATURE_CX16: int
    XMC_FEATURE_AVX: int
    XMC_FEATURE_HYPERVISOR: int
    XMC_FEATURE_SYSCALL_DISPATCH: int
    XMC_FEATURE_RWX: int
    XMC_FEATURE_ALIAS: int
    XMC_FEATURE_RESERVE: int
    XMC_FEATURE_PROCMEM: int
    XMC_FEATURE_VMWRITEV: int
    XMC_FEATURE_PTRACE: int
    def xmc_probe(self, probe: FFI.CData, /) -> int: ...
    def xmc_run(self, plan: FFI.CData, result: FFI.CData, /) -> int: ...
    def xmc_run_mixes(self, plan: FFI.CData, n: int, mixes: FFI.CData, out: FFI.CData, /) -> int: ...
    def xmc_bare_loop(self, plan: FFI.CData, limit_ns: int, ns: FFI.CData, /) -> int: ...
    def xmc_die_with_parent(self, /) -> int: ...

ffi: FFI
lib: Lib
