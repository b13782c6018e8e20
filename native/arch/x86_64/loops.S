/*
 * loops.S - the executor's loops and steps for x86-64. See arch.h for what each loop is.
 */
#include "frame.inc"

	.text

/* The zero in rax tells a region that set no value from one that did. rdx takes begun, a number, never an address. */
	.macro	window_tail again
	xor	%eax, %eax
	call	*F_ENTRY(%rsp)
	cmp	%rsp, F_SELF(%rsp)		/* a torn return may pop too much, and this loop writes to its frame */
	jne	loop_leave
	mov	F_ANNOUNCED(%rsp), %rdx
	mov	(%rdx), %rdx
	cmp	F_DONE(%rsp), %rdx
	jne	loop_news
	cmp	F_SEEN(%rsp), %rdx
	jne	loop_news
	cmp	%rbp, %rax
	jne	loop_news
	inc	%r15
	dec	%rbx
	jnz	\again
	jmp	loop_leave
	.endm

/*
 * Another image than the last is what an unthrottled writer makes of most executions, and torn values that have been seen
 * often come in their millions: they are counted here and now. rcx is poisoned again: no region meets an accessible
 * address.
 */
	.macro	value_tail again
	xor	%eax, %eax
	call	*F_ENTRY(%rsp)
	cmp	%rbp, %rax
	jne	3f
	inc	%r15
2:	dec	%rbx
	jnz	\again
	jmp	loop_leave
3:	cmp	%rsp, F_SELF(%rsp)		/* a torn return may pop too much, and this writes to the frame */
	jne	loop_leave
	cmp	%rbp, F_EXPECT(%rsp)		/* and what changed may be the value that is no news */
	jne	loop_leave
	mov	F_N_VALUES(%rsp), %rcx
4:	dec	%rcx
	js	loop_leave
	cmp	%rax, F_VALUES(%rsp, %rcx, 8)
	jne	4b
	incq	F_COUNTS(%rsp, %rcx, 8)
	cmp	F_N_IMAGES(%rsp), %rcx
	jae	5f
	mov	%rax, %rbp
	mov	%rax, F_EXPECT(%rsp)
5:	mov	F_POISON(%rsp), %rcx
	jmp	2b
	.endm

/* Load done. A plain load is a load-acquire on x86; what it does not order is the fetch of the code that is called. */
	.macro	load_done
	mov	F_PUBLISHED(%rsp), %rax
	mov	(%rax), %rax
	mov	%rax, F_DONE(%rsp)
	.endm

	.globl	xmc_arch_loop_value
	.hidden	xmc_arch_loop_value
	.type	xmc_arch_loop_value, @function
xmc_arch_loop_value:
	enter
	.p2align 6
1:	value_tail 1b
	.size	xmc_arch_loop_value, . - xmc_arch_loop_value

	.globl	xmc_arch_loop_value_steps
	.hidden	xmc_arch_loop_value_steps
	.type	xmc_arch_loop_value_steps, @function
xmc_arch_loop_value_steps:
	enter
	.p2align 6
1:	walk	F_BEFORE
	value_tail 1b
	.size	xmc_arch_loop_value_steps, . - xmc_arch_loop_value_steps

	.globl	xmc_arch_loop_window
	.hidden	xmc_arch_loop_window
	.type	xmc_arch_loop_window, @function
xmc_arch_loop_window:
	enter
	.p2align 6
1:	load_done
	window_tail 1b
	.size	xmc_arch_loop_window, . - xmc_arch_loop_window

	.globl	xmc_arch_loop_window_steps
	.hidden	xmc_arch_loop_window_steps
	.type	xmc_arch_loop_window_steps, @function
xmc_arch_loop_window_steps:
	enter
	.p2align 6
1:	walk	F_BEFORE
	load_done
	cmp	F_LOOKED(%rsp), %rax
	je	2f
	mov	%rax, F_LOOKED(%rsp)
	walk	F_ON_CHANGE
2:	walk	F_ALWAYS
	window_tail 1b
	.size	xmc_arch_loop_window_steps, . - xmc_arch_loop_window_steps

/* The common way out, and, for a context that a signal handler put here with rsp on the frame, the recovery point. */
loop_news:
	mov	%rdx, F_BEGUN(%rsp)
loop_leave:
	.globl	xmc_arch_loop_recover
	.hidden	xmc_arch_loop_recover
xmc_arch_loop_recover:
	/* Back to the frame, wherever rsp is. Should both be wrong, this faults while still active, and comes back. */
	mov	%rsp, %rdi
	cmp	%rsp, F_SELF(%rsp)
	je	1f
	mov	%r14, %rsp
	not	%rsp
1:	movq	$0, F_ACTIVE(%rsp)
	/* Flags that a torn instruction may have set, and compiled code cannot bear: DF, AC. */
	pushq	$0x202
	popfq
	mov	%rax, F_VALUE(%rsp)
	mov	%rbx, F_LEFT(%rsp)
	mov	%r15, F_RAN(%rsp)
	mov	F_POISON(%rsp), %rcx
	xor	%rcx, %r12
	xor	%rcx, %r13
	xor	%rsp, %rdi
	not	%r14
	xor	%rsp, %r14
	or	%r14, %rdi
	xor	F_EXPECT(%rsp), %rbp
	or	%r12, %rbp
	or	%r13, %rbp
	or	%rdi, %rbp
	mov	%rbp, F_CLOBBERED(%rsp)
	mov	F_OUTER(%rsp), %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/*
 * Executor steps. They may change rax, rcx, rdx and the flags; rcx and rdx are left poisoned, so that no region meets
 * an accessible address. On entry the frame is 8 bytes above rsp.
 */
	.macro	step name
	.globl	xmc_arch_step_\name
	.hidden	xmc_arch_step_\name
	.type	xmc_arch_step_\name, @function
xmc_arch_step_\name:
	.endm

	step	lfence
	lfence
	ret

	step	mfence
	mfence
	ret

	step	lock
	lock orq $0, -64(%rsp)
	ret

/* getppid: enters and leaves the kernel and does next to nothing there. The kernel returns rip in rcx, flags in r11. */
	step	syscall
	mov	$110, %eax
	syscall
	mov	8+F_POISON(%rsp), %rcx
	mov	%rcx, %r11
	ret

	step	cpuid
	push	%rbx
	xor	%eax, %eax
	xor	%ecx, %ecx
	cpuid
	pop	%rbx
	mov	8+F_POISON(%rsp), %rcx
	mov	%rcx, %rdx
	ret

	step	serialize
	.byte	0x0f, 0x01, 0xe8
	ret

/* IRET to the next instruction, at the same privilege: the serializing instruction that does not trap to a hypervisor. */
	step	iret
	mov	%rsp, %rdx
	mov	%ss, %eax
	push	%rax
	push	%rdx
	pushfq
	mov	%cs, %eax
	push	%rax
	lea	1f(%rip), %rax
	push	%rax
	iretq
1:	mov	8+F_POISON(%rsp), %rdx
	ret

	step	flush_head
	mov	8+F_HEAD(%rsp), %rax
	clflush	(%rax)
	ret

	step	flush_tail
	mov	8+F_TAIL(%rsp), %rax
	clflush	(%rax)
	ret

/* One call into every page of the arena, \pages of them, \at bytes into each. */
	.macro	tour pages at
	mov	8+F_ARENA(%rsp), %rax
	add	$\at, %rax
	mov	$\pages, %ecx
1:	call	*%rax
	add	$4096, %rax
	dec	%ecx
	jnz	1b
	mov	8+F_POISON(%rsp), %rcx
	ret
	.endm

	step	evict_tlb
	tour	ARENA_PAGES ARENA_RETURN

	step	cold_branches
	tour	COLD_PAGES 0

	step	mispredict
	jmp	*8+F_BAIT(%rsp)

	.section .note.GNU-stack, "", @progbits
