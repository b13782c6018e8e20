/*
 * arch.h - the contract that a port implements; the only place where an ISA is chosen.
 *
 * A port is one folder: arch/<isa>/isa.h (the inline half, included below), arch.c and loops.S.
 *
 *   xmc_arch_probe       what this CPU has: features, steps, vendor
 *   xmc_arch_loop_*      the call site: known registers in, observed value out, with a labelled recovery point
 *   xmc_arch_recover     put an interrupted context on that recovery point
 *   xmc_arch_registers   what its registers held, and xmc_arch_register_names in which order
 *   xmc_arch_exec_step   the code of an executor step, or NULL where this CPU has none
 *   xmc_arch_store       one store instruction of 1, 2, 4 or 8 bytes, at any address
 *   xmc_arch_store_form  one store of a form of its own: SSE16, AVX32, CMPXCHG16B, MOVSB, NT
 *   xmc_arch_has_store   whether this CPU has what an enum xmc_store needs
 *   xmc_arch_{m,s,l}fence, xmc_arch_serialize, xmc_arch_flush (of XMC_ARCH_LINE bytes), xmc_arch_sync_range
 *   xmc_arch_trap        the bytes of the breakpoint; xmc_arch_guard those of a branch to itself, xmc_arch_gate those of
 *                        a system call
 *   xmc_arch_ticks, xmc_arch_relax
 *   xmc_arch_jump        the 8 bytes that make a branch to a target, for one aligned store
 *
 * The loops, in pseudo-code (F is the frame, which is also the stack pointer's place: see struct xmc_frame):
 *
 *   value:    do { v = call(F.entry)
 *                  if (v != F.expect) {
 *                          i = the last with F.values[i] == v, or break; F.counts[i]++
 *                          if (i < F.n_images) F.expect = v } } while (--F.left)
 *   window:   do { F.done = load-acquire(F.published)
 *                  v = call(F.entry)
 *                  F.begun = load-acquire(F.announced)
 *                  if (F.done != F.begun || F.begun != F.seen || v != F.expect) break; } while (--F.left)
 *   *_steps:  the same with F.before called first; window_steps also calls F.on_change after F.done moved away from
 *             F.looked, and F.always every time, both between the load of F.done and the call.
 *
 *   publish:  do { g = F.done = load-acquire(F.published); *F.adopted = g
 *                  v = call(slot of g); if (v != code of g) break; } while (--F.left)
 *   guess:    the same, entered speculatively at the slot of a guess, F.done or (1 in 4) F.done + 1, while the load
 *             of F.published is under way; guess_flush flushes that line first, so that the load takes long.
 *   The code of generation g is g in the lower 32 bits and its complement in the upper.
 *
 * F.left is what was left when the loop ended; the execution that ended it early is not subtracted.
 */
#ifndef XMC_ARCH_H
#define XMC_ARCH_H
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../xmc.h"

#define XMC_FRAME_GUARDS 8
#define XMC_FRAME_STEPS 8
#define XMC_FRAME_VALUES 48

typedef void (*xmc_code)(void);

/*
 * While a loop runs, the stack pointer points at this structure and the region's return address lies just below it.
 * So everything that the loop needs is found through the stack pointer alone, whatever a torn execution left in the
 * other registers; and a torn return that pops too much lands on a guard: an address that faults.
 * The assembly knows these offsets.
 */
struct xmc_frame {
	uint64_t guards[XMC_FRAME_GUARDS];
	uint64_t entry;			/* address that is called */
	uint64_t published;		/* address of done */
	uint64_t announced;		/* address of begun */
	uint64_t expect;		/* the value that is no news */
	uint64_t seen;			/* the generation that `expect` belongs to */
	uint64_t done;
	uint64_t begun;
	uint64_t value;
	uint64_t left;
	uint64_t poison;		/* an inaccessible address, in every general register on entry */
	uint64_t head;			/* addresses for the flush steps */
	uint64_t tail;
	uint64_t looked;		/* the done that the on-change steps were last run for */
	uint64_t outer;			/* the caller's stack pointer */
	uint64_t clobbered;		/* not 0: a register that no region may change was changed */
	uint64_t active;		/* 1: the thread is in the loop, so a fault is the region's */
	xmc_code before[XMC_FRAME_STEPS];	/* each list ends with NULL */
	xmc_code on_change[XMC_FRAME_STEPS];
	xmc_code always[XMC_FRAME_STEPS];
	uint64_t arena;			/* XMC_ARENA_PAGES pages of harmless code, for the steps that need other code */
	uint64_t bait;			/* code that returns, and whose return is predicted into the region */
	uint64_t self;			/* the frame's own address */
	uint64_t ran;			/* executions that were no news: with `counts` and `left`, what the loop began with */
	/* The publish loops' own. Slot of generation g: base + (g & mask) * stride. */
	uint64_t base;
	uint64_t mask;
	uint64_t stride;
	uint64_t adopted;		/* address of the executor's `adopted` */
	uint64_t firsts;		/* executions that were the first of their generation */
	uint64_t first;			/* 1: the last execution was */
	uint64_t random;
	/* The value loops' own: values that are counted without leaving the loop. First what the images return. */
	uint64_t n_images;
	uint64_t n_values;
	uint64_t values[XMC_FRAME_VALUES];
	uint64_t counts[XMC_FRAME_VALUES];	/* executions that returned each, and not what was expected */
	/* Below: not touched by assembly. */
	uint64_t fault_pc;
	uint64_t fault_address;
	int32_t fault_signal;		/* 0: the loop returned by itself */
	int32_t fault_code;
	uint64_t interior_left;		/* not 0: interrupted inside the patched bytes with this many left */
	uint64_t fault_registers[XMC_REGISTERS_MAX];
};

#define XMC_ARENA_PAGES 2048		/* more than any instruction TLB so far has entries */
#define XMC_BAIT_BYTES 32

/*
 * Fill one page of the arena: called at its start it runs many branches and returns, called at
 * xmc_arch_arena_return it only returns.
 */
void xmc_arch_fill_arena(uint8_t *page, uint32_t page_bytes);

/* Write the bait, which will be executed at address `text`, for a region entered at `entry`; returns its length. */
uint32_t xmc_arch_fill_bait(uint8_t *bait, uint64_t text, uint64_t entry);

typedef void (*xmc_loop)(struct xmc_frame *frame);

void xmc_arch_loop_value(struct xmc_frame *frame);
void xmc_arch_loop_value_steps(struct xmc_frame *frame);
void xmc_arch_loop_window(struct xmc_frame *frame);
void xmc_arch_loop_window_steps(struct xmc_frame *frame);
void xmc_arch_loop_publish(struct xmc_frame *frame);
void xmc_arch_loop_publish_steps(struct xmc_frame *frame);
void xmc_arch_loop_guess(struct xmc_frame *frame);
void xmc_arch_loop_guess_flush(struct xmc_frame *frame);

/* Set the ISA's part of *probe: vendor, isa, line_bytes, exec_ops, step_ops and the CPU's own features. */
void xmc_arch_probe(struct xmc_probe *probe);

/* The code of executor step `op`, or NULL. */
xmc_code xmc_arch_exec_step(uint32_t op);

/* Whether this CPU can store as enum xmc_store `store` says. */
bool xmc_arch_has_store(uint32_t store);

/* Async-signal-safe: make `context` go on at the recovery point of the loop that `frame` belongs to. */
void xmc_arch_recover(void *context, struct xmc_frame *frame);

/* Async-signal-safe: PC of `context`. */
uint64_t xmc_arch_pc(const void *context);

/* Async-signal-safe: copy the general registers of `context`, then its flags; XMC_REGISTERS_MAX at most. */
void xmc_arch_registers(const void *context, uint64_t *out);
extern const char xmc_arch_register_names[];

/* Async-signal-safe: let the loop end after the execution that `context` is in; returns what was left. */
uint64_t xmc_arch_end_batch(void *context);

/* Code that makes one harmless system call and returns, XMC_GATE_BYTES at most: what containment is tried with. */
#define XMC_GATE_BYTES 16
extern const uint8_t xmc_arch_gate[XMC_GATE_BYTES];

/* Offset from the breakpoint's first byte to the PC that its signal reports. */
extern const uint32_t xmc_arch_trap_advance;
extern const uint8_t xmc_arch_trap[4];
extern const uint32_t xmc_arch_trap_len;
/* A branch to itself, and how long it is. */
extern const uint8_t xmc_arch_guard[4];
extern const uint32_t xmc_arch_guard_len;

#if defined(__x86_64__)
#include "x86_64/isa.h"
#else
#error "no port for this ISA: add native/arch/<isa>/ and a line here"
#endif
#endif
