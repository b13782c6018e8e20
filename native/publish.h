/* publish.h - what the files of the publish shape share: slots.c, publish.c, adopt.c and helper.c. */
#ifndef XMC_PUBLISH_H
#define XMC_PUBLISH_H
#include "core.h"

#define XMC_BLOCK 256ull		/* generations between two renewals of slots */
#define XMC_FRAMES (2 * XMC_BLOCK)	/* page frames that fresh addresses take turns on */

/*
 * Where generations lie. Paged: every slot is alone on its page, and generation g is in page frame g mod frames.
 * Else slots are packed, and the page frame of a slot is its own for ever.
 */
struct slots {
	uint8_t *base;			/* executors' view of slot 0 */
	uint8_t *view;			/* readable for ever, by the harness: what stood there when something went wrong */
	uint8_t *alias;			/* writable for ever, or NULL */
	uint8_t *temporary;		/* writable, one page, between the steps ALIAS and DROP_ALIAS */
	uint64_t bytes;
	uint64_t file_bytes;
	uint64_t stride;
	uint64_t mask;
	uint64_t frames;
	uint64_t body_at;		/* offset in a slot of the body's first byte */
	int fd;
	bool paged;
};

extern struct slots the_slots;

/* slots.c: addresses of generation g's body as executors fetch it, and as it lies in the file. */
uint64_t slot_text(uint64_t generation);
uint64_t slot_offset(uint64_t generation);
uint64_t slot_page(uint64_t generation);
int slot_map(uint64_t generation, int prot);
int slots_unmap(uint64_t first, uint64_t last);

/* slots.c: store `part` of generation g's body at `at`, by aligned 8-byte stores, ascending. */
void body_store(const struct core *core, uint64_t at, uint64_t generation, uint32_t part);

/* slots.c: the second of the two fields of generation g's body; the first is this xor its code. */
uint64_t second_field(uint64_t generation);

/* What a whole body of generation g returns. */
static inline uint64_t code_of(uint64_t generation)
{
	return (uint32_t)generation | (uint64_t)(uint32_t)~generation << 32;
}

/* slots.c: 0 or -errno. Generation 0 is there and published when it returns. */
int publish_check(const struct xmc_plan *plan, const struct xmc_publish *publish);
int publish_prepare(struct core *core);
void publish_release(struct core *core);

/* publish.c: the writer's part: what membarriers want done once, and one publication. 0, -errno or -EINTR. */
int publish_register(const struct xmc_publish *publish);
int publish_once(struct core *core, uint64_t generation, uint32_t provocation);

/* adopt.c: the executor's part. */
int publish_execute(struct executor *ex);

/* helper.c: a process of its own that fills slots. Start it before any thread; 0 or -errno. */
int helper_start(struct core *core);
int helper_fill(struct core *core, uint64_t generation, uint32_t part);
void helper_end(void);
#endif
