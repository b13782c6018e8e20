/*
 * publish.S - the executor's loops of the publish shape for x86-64. See arch.h for what each is; they leave as those
 * of loops.S do.
 */
#include "frame.inc"

	.hidden	xmc_arch_loop_recover
	.text

/* Aim the call at the slot of the generation in rdx, and expect its code: g below, its complement above. Changes rcx. */
	.macro	aim
	mov	%rdx, %rcx
	and	F_MASK(%rsp), %rcx
	imul	F_STRIDE(%rsp), %rcx
	add	F_BASE(%rsp), %rcx
	mov	%rcx, F_ENTRY(%rsp)
	mov	%rcx, F_HEAD(%rsp)
	add	$64, %rcx		/* a body begins in one line and ends in the next */
	mov	%rcx, F_TAIL(%rsp)
	mov	%edx, %ecx
	not	%ecx
	shl	$32, %rcx
	mov	%edx, %ebp
	or	%rcx, %rbp
	mov	%rbp, F_EXPECT(%rsp)
	.endm

/*
 * rdx: the generation acquired. From here on no older one is called: TSO keeps the store of `adopted` behind all that
 * was executed before it, which is what the writer's drain relies on. Whether it is a first execution is counted.
 */
	.macro	adopt
	mov	%rdx, F_DONE(%rsp)
	mov	F_ADOPTED(%rsp), %rcx
	mov	%rdx, (%rcx)
	xor	%ecx, %ecx
	cmp	F_LOOKED(%rsp), %rdx
	setne	%cl
	add	%rcx, F_FIRSTS(%rsp)
	mov	%rcx, F_FIRST(%rsp)
	mov	%rdx, F_LOOKED(%rsp)
	.endm

/* Acquire: a plain load. What it does not order is the fetch of the code that is called: that is the question. */
	.macro	acquire
	mov	F_PUBLISHED(%rsp), %rdx
	mov	(%rdx), %rdx
	.endm

	.macro	enter_slot again
	mov	F_POISON(%rsp), %rcx
	mov	%rcx, %rdx
	xor	%eax, %eax
	call	*F_ENTRY(%rsp)
	cmp	%rsp, F_SELF(%rsp)		/* a torn return may pop too much, and this loop writes to its frame */
	jne	xmc_arch_loop_recover
	cmp	%rbp, %rax
	jne	xmc_arch_loop_recover
	inc	%r15
	dec	%rbx
	jnz	\again
	jmp	xmc_arch_loop_recover
	.endm

	.macro	slot_steps
	cmpq	$0, F_FIRST(%rsp)
	je	3f
	walk	F_ON_CHANGE
3:	walk	F_ALWAYS
	walk	F_BEFORE
	.endm

	.globl	xmc_arch_loop_publish
	.hidden	xmc_arch_loop_publish
	.type	xmc_arch_loop_publish, @function
xmc_arch_loop_publish:
	enter
	.p2align 6
1:	acquire
	aim
	adopt
	enter_slot 1b
	.size	xmc_arch_loop_publish, . - xmc_arch_loop_publish

	.globl	xmc_arch_loop_publish_steps
	.hidden	xmc_arch_loop_publish_steps
	.type	xmc_arch_loop_publish_steps, @function
xmc_arch_loop_publish_steps:
	enter
	.p2align 6
1:	acquire
	aim
	adopt
	slot_steps
	enter_slot 1b
	.size	xmc_arch_loop_publish_steps, . - xmc_arch_loop_publish_steps

/*
 * Everything that the call needs is made from the guess before the flag's load is issued, so that nothing but the
 * branch waits for it. A guess of 1 in 4 that fails keeps the predictor on `je`: the slot is entered, and fetched,
 * speculatively; if the flag then says that the guess was right, what was fetched is what is executed.
 */
	.macro	guess_loop flush
1:	mov	$0x5851f42d4c957f2d, %rcx
	mov	F_RANDOM(%rsp), %rdx
	imul	%rcx, %rdx
	inc	%rdx
	mov	%rdx, F_RANDOM(%rsp)
	shr	$62, %rdx
	sub	$3, %rdx
	sbb	%rcx, %rcx
	lea	1(%rcx), %rdx
	add	F_DONE(%rsp), %rdx
	aim
	mov	F_PUBLISHED(%rsp), %rax
	.if	\flush
	clflush	(%rax)
	.endif
	mov	(%rax), %rax
	cmp	%rdx, %rax
	je	2f
	mov	%rax, %rdx
	aim
2:	adopt
	slot_steps
	enter_slot 1b
	.endm

	.globl	xmc_arch_loop_guess
	.hidden	xmc_arch_loop_guess
	.type	xmc_arch_loop_guess, @function
xmc_arch_loop_guess:
	enter
	.p2align 6
	guess_loop 0
	.size	xmc_arch_loop_guess, . - xmc_arch_loop_guess

	.globl	xmc_arch_loop_guess_flush
	.hidden	xmc_arch_loop_guess_flush
	.type	xmc_arch_loop_guess_flush, @function
xmc_arch_loop_guess_flush:
	enter
	.p2align 6
	guess_loop 1
	.size	xmc_arch_loop_guess_flush, . - xmc_arch_loop_guess_flush

	.section .note.GNU-stack, "", @progbits
