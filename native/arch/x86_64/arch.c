/* arch.c - the x86-64 port's C half: probe, step table, context surgery. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include "../arch.h"

_Static_assert(offsetof(struct xmc_frame, entry) == 64, "loops.S: F_ENTRY");
_Static_assert(offsetof(struct xmc_frame, published) == 72, "loops.S: F_PUBLISHED");
_Static_assert(offsetof(struct xmc_frame, announced) == 80, "loops.S: F_ANNOUNCED");
_Static_assert(offsetof(struct xmc_frame, expect) == 88, "loops.S: F_EXPECT");
_Static_assert(offsetof(struct xmc_frame, seen) == 96, "loops.S: F_SEEN");
_Static_assert(offsetof(struct xmc_frame, done) == 104, "loops.S: F_DONE");
_Static_assert(offsetof(struct xmc_frame, begun) == 112, "loops.S: F_BEGUN");
_Static_assert(offsetof(struct xmc_frame, value) == 120, "loops.S: F_VALUE");
_Static_assert(offsetof(struct xmc_frame, left) == 128, "loops.S: F_LEFT");
_Static_assert(offsetof(struct xmc_frame, poison) == 136, "loops.S: F_POISON");
_Static_assert(offsetof(struct xmc_frame, head) == 144, "loops.S: F_HEAD");
_Static_assert(offsetof(struct xmc_frame, tail) == 152, "loops.S: F_TAIL");
_Static_assert(offsetof(struct xmc_frame, looked) == 160, "loops.S: F_LOOKED");
_Static_assert(offsetof(struct xmc_frame, outer) == 168, "loops.S: F_OUTER");
_Static_assert(offsetof(struct xmc_frame, clobbered) == 176, "loops.S: F_CLOBBERED");
_Static_assert(offsetof(struct xmc_frame, active) == 184, "loops.S: F_ACTIVE");
_Static_assert(offsetof(struct xmc_frame, before) == 192, "loops.S: F_BEFORE");
_Static_assert(offsetof(struct xmc_frame, on_change) == 256, "loops.S: F_ON_CHANGE");
_Static_assert(offsetof(struct xmc_frame, always) == 320, "loops.S: F_ALWAYS");

_Static_assert(offsetof(struct xmc_frame, arena) == 384, "loops.S: F_ARENA");
_Static_assert(offsetof(struct xmc_frame, bait) == 392, "loops.S: F_BAIT");
_Static_assert(offsetof(struct xmc_frame, self) == 400, "loops.S: F_SELF");
_Static_assert(offsetof(struct xmc_frame, ran) == 408, "loops.S: F_RAN");
_Static_assert(XMC_ARENA_PAGES == 2048, "loops.S: ARENA_PAGES");
_Static_assert(offsetof(struct xmc_frame, base) == 416, "loops.S: F_BASE");
_Static_assert(offsetof(struct xmc_frame, mask) == 424, "loops.S: F_MASK");
_Static_assert(offsetof(struct xmc_frame, stride) == 432, "loops.S: F_STRIDE");
_Static_assert(offsetof(struct xmc_frame, adopted) == 440, "loops.S: F_ADOPTED");
_Static_assert(offsetof(struct xmc_frame, firsts) == 448, "loops.S: F_FIRSTS");
_Static_assert(offsetof(struct xmc_frame, first) == 456, "loops.S: F_FIRST");
_Static_assert(offsetof(struct xmc_frame, random) == 464, "loops.S: F_RANDOM");
_Static_assert(offsetof(struct xmc_frame, n_images) == 472, "loops.S: F_N_IMAGES");
_Static_assert(offsetof(struct xmc_frame, n_values) == 480, "loops.S: F_N_VALUES");
_Static_assert(offsetof(struct xmc_frame, values) == 488, "loops.S: F_VALUES");
_Static_assert(offsetof(struct xmc_frame, counts) == 872, "loops.S: F_COUNTS");

const uint8_t xmc_arch_trap[4] = { 0xcc };
const uint32_t xmc_arch_trap_len = 1;
const uint32_t xmc_arch_trap_advance = 1;
const uint8_t xmc_arch_guard[4] = { 0xeb, 0xfe };
const uint32_t xmc_arch_guard_len = 2;
const uint8_t xmc_arch_gate[XMC_GATE_BYTES] = {
	0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3,	/* mov $SYS_getpid, %eax; syscall; ret */
};

void xmc_arch_loop_recover(void);
void xmc_arch_step_lfence(void);
void xmc_arch_step_mfence(void);
void xmc_arch_step_lock(void);
void xmc_arch_step_syscall(void);
void xmc_arch_step_cpuid(void);
void xmc_arch_step_serialize(void);
void xmc_arch_step_iret(void);
void xmc_arch_step_flush_head(void);
void xmc_arch_step_flush_tail(void);

void xmc_arch_step_evict_tlb(void);
void xmc_arch_step_cold_branches(void);
void xmc_arch_step_mispredict(void);

static const xmc_code exec_steps[XMC_EXEC_OPS] = {
	[XMC_EXEC_LFENCE] = xmc_arch_step_lfence,
	[XMC_EXEC_MFENCE] = xmc_arch_step_mfence,
	[XMC_EXEC_LOCK] = xmc_arch_step_lock,
	[XMC_EXEC_SYSCALL] = xmc_arch_step_syscall,
	[XMC_EXEC_CPUID] = xmc_arch_step_cpuid,
	[XMC_EXEC_SERIALIZE] = xmc_arch_step_serialize,
	[XMC_EXEC_IRET] = xmc_arch_step_iret,
	[XMC_EXEC_FLUSH_HEAD] = xmc_arch_step_flush_head,
	[XMC_EXEC_FLUSH_TAIL] = xmc_arch_step_flush_tail,
	[XMC_EXEC_EVICT_TLB] = xmc_arch_step_evict_tlb,
	[XMC_EXEC_COLD_BRANCHES] = xmc_arch_step_cold_branches,
	[XMC_EXEC_MISPREDICT] = xmc_arch_step_mispredict,
};

static int has_serialize(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 14 & 1);
}

/* AVX is there only where the kernel saves its registers too: XCR0 says so, and OSXSAVE that XCR0 may be read. */
static bool has_avx(void)
{
	uint32_t a, b, c, d, xcr0, high;

	__cpuid(1, a, b, c, d);
	if ((c >> 27 & 3) != 3)
		return false;
	__asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
	return (xcr0 & 6) == 6;
}

bool xmc_arch_has_store(uint32_t store)
{
	uint32_t a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (store == XMC_STORE_CMPXCHG16B)
		return c >> 13 & 1;
	return store == XMC_STORE_AVX32 ? has_avx() : store < XMC_STORES;
}

xmc_code xmc_arch_exec_step(uint32_t op)
{
	if (op >= XMC_EXEC_OPS || (op == XMC_EXEC_SERIALIZE && !has_serialize()))
		return NULL;
	return exec_steps[op];
}

void xmc_arch_probe(struct xmc_probe *probe)
{
	uint32_t a, b, c, d;

	strcpy(probe->isa, "x86_64");
	__cpuid(0, a, b, c, d);
	memcpy(probe->vendor, &b, 4);
	memcpy(probe->vendor + 4, &d, 4);
	memcpy(probe->vendor + 8, &c, 4);
	if (!strcmp(probe->vendor, "AuthenticAMD") || !strcmp(probe->vendor, "HygonGenuine"))
		probe->features |= XMC_FEATURE_MFENCE_SERIALIZES;
	__cpuid(1, a, b, c, d);
	probe->line_bytes = (b >> 8 & 0xff) * 8;
	probe->features |= xmc_arch_has_store(XMC_STORE_CMPXCHG16B) ? XMC_FEATURE_CX16 : 0;
	probe->features |= xmc_arch_has_store(XMC_STORE_AVX32) ? XMC_FEATURE_AVX : 0;
	probe->features |= (c >> 31 & 1) ? XMC_FEATURE_HYPERVISOR : 0;
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		probe->features |= (b >> 23 & 1) ? XMC_FEATURE_CLFLUSHOPT : 0;
	if (has_serialize())
		probe->features |= XMC_FEATURE_SERIALIZE;
	if (__get_cpuid_count(7, 1, &a, &b, &c, &d))
		probe->features |= (a >> 17 & 1) ? XMC_FEATURE_FRED : 0;
	if (__get_cpuid(0x80000008, &a, &b, &c, &d))
		probe->features |= (b >> 3 & 1) ? XMC_FEATURE_INVLPGB : 0;
	for (uint32_t op = 0; op < XMC_EXEC_OPS; op++)
		probe->exec_ops |= xmc_arch_exec_step(op) ? 1u << op : 0;
	probe->step_ops = (1u << XMC_STEP_OPS) - 1;
}

/* A chain of jumps, one a line, that ends in a return in the last line of the page. */
void xmc_arch_fill_arena(uint8_t *page, uint32_t page_bytes)
{
	memset(page, 0xcc, page_bytes);
	for (uint32_t at = 0; at + 64 < page_bytes; at += 64)
		memcpy(page + at, "\xeb\x3e", 2);		/* jmp to the next line */
	page[page_bytes - 64] = 0xc3;
}

/*
 *	call	1f		the return stack now predicts a return to the next instruction
 *	jmp	entry		never retired: only the prediction leads here
 * 1:	lea	8(%rsp), %rsp	drop that return address; the step's own lies above
 *	clflush	(%rsp)		and is far away, so that the misprediction is found out late
 *	ret
 */
uint32_t xmc_arch_fill_bait(uint8_t *bait, uint64_t text, uint64_t entry)
{
	static const uint8_t code[] = "\xe8\x05\0\0\0\xe9\0\0\0\0\x48\x8d\x64\x24\x08\x0f\xae\x3c\x24\xc3";
	int32_t displacement = (int32_t)(int64_t)(entry - (text + 10));

	memcpy(bait, code, sizeof(code) - 1);
	memcpy(bait + 6, &displacement, 4);
	return sizeof(code) - 1;
}

/* Flags that torn code may have set and that no compiled code survives: TF, DF, NT, AC. */
#define FLAGS_DENIED (0x100ull | 0x400 | 0x4000 | 0x40000)

void xmc_arch_recover(void *context, struct xmc_frame *frame)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	regs[REG_RIP] = (greg_t)(uintptr_t)xmc_arch_loop_recover;
	regs[REG_RSP] = (greg_t)(uintptr_t)frame;
	regs[REG_R14] = (greg_t)~(uintptr_t)frame;
	regs[REG_EFL] &= ~(greg_t)FLAGS_DENIED;
}

uint64_t xmc_arch_pc(const void *context)
{
	return (uint64_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}

const char xmc_arch_register_names[] = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rflags";

static const uint8_t register_indices[] = { REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
	                                    REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
	                                    REG_R12, REG_R13, REG_R14, REG_R15, REG_EFL };

void xmc_arch_registers(const void *context, uint64_t *out)
{
	const greg_t *regs = ((const ucontext_t *)context)->uc_mcontext.gregs;

	for (size_t i = 0; i < sizeof(register_indices); i++)
		out[i] = (uint64_t)regs[register_indices[i]];
}

uint64_t xmc_arch_end_batch(void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	uint64_t left = (uint64_t)regs[REG_RBX];

	regs[REG_RBX] = 1;
	return left;
}
