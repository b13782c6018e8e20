/* words.c - between the constants of xmc.h and the words that plans and records use for them. */
#include "agent.h"
#include <string.h>

static const struct {
	const char *words;		/* enum xmc_`words` */
	const char *word;
	uint32_t constant;
} table[] = {
#include "names.inc"
};

#define N_WORDS (sizeof(table) / sizeof(table[0]))

const char *word_of(const char *words, uint32_t constant)
{
	for (size_t i = 0; i < N_WORDS; i++)
		if (table[i].constant == constant && !strcmp(table[i].words, words))
			return table[i].word;
	return NULL;
}

int64_t word_constant(const char *words, struct piece word)
{
	for (size_t i = 0; i < N_WORDS; i++)
		if (!strcmp(table[i].words, words) && piece_is(word, table[i].word))
			return table[i].constant;
	return -1;
}

void words_each(const char *words, void (*each)(void *with, const char *word, uint32_t constant), void *with)
{
	for (size_t i = 0; i < N_WORDS; i++)
		if (!strcmp(table[i].words, words))
			each(with, table[i].word, table[i].constant);
}

void words_list(const char *words, char *list, size_t size)
{
	size_t used = 0;

	list[0] = '\0';
	for (size_t i = 0; i < N_WORDS && used < size; i++)
		if (!strcmp(table[i].words, words))
			used += (size_t)snprintf(list + used, size - used, "%s%s", used ? ", " : "", table[i].word);
}

/* By name, where a fault has recorded them. */
void write_event_registers(struct writer *w, const void *at)
{
	const struct xmc_event *e = at;
	const char *name = xmc_register_names();

	write_open(w, '{');
	for (uint32_t i = 0; e->signal && *name; i++, name += strcspn(name, " "), name += strspn(name, " ")) {
		write_key_piece(w, (struct piece){ name, strcspn(name, " ") });
		write_u64(w, e->registers[i]);
	}
	write_close(w, '}');
}
