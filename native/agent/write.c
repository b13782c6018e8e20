/* write.c - JSON out: values one after the other, and structs by their tables. */
#include "json.h"
#include <inttypes.h>
#include <signal.h>

/* What stands between this value and what was written before it. */
static void begin(struct writer *w)
{
	if (w->comma)
		fputc(',', w->to);
	w->comma = true;
}

void write_key_piece(struct writer *w, struct piece key)
{
	write_piece(w, key);
	fputc(':', w->to);
	w->comma = false;
}

void write_key(struct writer *w, const char *key)
{
	write_text(w, key);
	fputc(':', w->to);
	w->comma = false;
}

void write_open(struct writer *w, char bracket)
{
	begin(w);
	fputc(bracket, w->to);
	w->comma = false;
}

void write_close(struct writer *w, char bracket)
{
	fputc(bracket, w->to);
	w->comma = true;
}

void write_u64(struct writer *w, uint64_t value)
{
	begin(w);
	fprintf(w->to, "%" PRIu64, value);
}

void write_i64(struct writer *w, int64_t value)
{
	begin(w);
	fprintf(w->to, "%" PRId64, value);
}

void write_bool(struct writer *w, bool value)
{
	begin(w);
	fputs(value ? "true" : "false", w->to);
}

void write_null(struct writer *w)
{
	begin(w);
	fputs("null", w->to);
}

/* Every digit that there is, so that whoever reads it gets the nearest double to ns / 1e9. */
void write_seconds(struct writer *w, uint64_t ns)
{
	begin(w);
	fprintf(w->to, "%" PRIu64 ".%09u", ns / 1000000000u, (unsigned)(ns % 1000000000u));
}

void write_text(struct writer *w, const char *text)
{
	begin(w);
	fprintf(w->to, "\"%s\"", text);
}

void write_piece(struct writer *w, struct piece piece)
{
	begin(w);
	fputc('"', w->to);
	fwrite(piece.at, 1, piece.len, w->to);
	fputc('"', w->to);
}

void write_hex(struct writer *w, const uint8_t *bytes, uint32_t len)
{
	begin(w);
	fputc('"', w->to);
	for (uint32_t i = 0; i < len; i++)
		fprintf(w->to, "%02x", bytes[i]);
	fputc('"', w->to);
}

/* Real-time signals are the watchdog's: no others are accounted for. */
void write_signal(struct writer *w, int32_t number)
{
	static const struct {
		int number;
		const char *name;
	} names[] = { { 0, "" },		{ SIGILL, "SIGILL" }, { SIGTRAP, "SIGTRAP" }, { SIGSEGV, "SIGSEGV" },
		      { SIGBUS, "SIGBUS" }, { SIGFPE, "SIGFPE" }, { SIGSYS, "SIGSYS" } };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].number == number) {
			write_text(w, names[i].name);
			return;
		}
	write_text(w, "watchdog");
}

static void write_codec(struct writer *w, const struct field *field, const void *at)
{
	const uint64_t *u64 = at;
	const uint32_t *u32 = at;
	const char *word;

	switch (field->codec) {
	case CODEC_U32:
		write_u64(w, *u32);
		break;
	case CODEC_I32:
		write_i64(w, *(const int32_t *)at);
		break;
	case CODEC_I64:
		write_i64(w, *(const int64_t *)at);
		break;
	case CODEC_BOOL:
		write_bool(w, *u32);
		break;
	case CODEC_WORD:
		word = word_of(field->words, *u32);
		write_text(w, word ? word : "?");
		break;
	case CODEC_SECONDS_OR_NULL:
	case CODEC_SECONDS:
		if (*u64 || field->codec == CODEC_SECONDS)
			write_seconds(w, *u64);
		else
			write_null(w);
		break;
	case CODEC_SIGNAL:
		write_signal(w, *(const int32_t *)at);
		break;
	default:
		write_u64(w, *u64);
	}
}

void write_fields(struct writer *w, const struct field *fields, const void *base)
{
	for (; fields->name; fields++) {
		write_key(w, fields->name);
		if (fields->write)
			fields->write(w, base);
		else
			write_codec(w, fields, (const uint8_t *)base + fields->offset);
	}
}
