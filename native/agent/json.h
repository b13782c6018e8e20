/*
 * json.h - JSON in and out, strict and small (RFC 8259), for structs that tables describe.
 *
 * What is read is a tree over the text that it was read from: strings and numbers are pieces of that text, strings as
 * they stand between their quotes. So an escape in a name is copied, not understood.
 */
#ifndef XMC_JSON_H
#define XMC_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct piece {
	const char *at;
	size_t len;
};

struct json {
	enum json_type type;
	uint32_t n;			/* elements or members */
	struct piece key;		/* of a member */
	struct piece text;		/* of a number or a string */
	struct json *first;		/* element or member */
	struct json *next;
};

/* Where something is wrong: the first time stays. `path` is where we are, as in `plan.writer[2]`. */
struct reader {
	char path[256];
	char error[512];		/* "" while nothing is wrong */
	void *job;			/* what is being filled */
};

/* How a member of a struct is written in JSON. What has an own function for a direction needs no codec for it. */
enum codec {
	CODEC_NONE,
	CODEC_U32,
	CODEC_I32,
	CODEC_U64,
	CODEC_I64,
	CODEC_BOOL,			/* of a uint32_t */
	CODEC_WORD,			/* of a uint32_t that holds a constant of the enum `words` */
	CODEC_SECONDS,			/* of nanoseconds in a uint64_t */
	CODEC_SECONDS_OR_NULL,		/* the same, null for 0 */
	CODEC_SIGNAL,			/* of an int32_t: SIGILL; "" for 0, watchdog for one of ours */
	CODECS
};

struct writer;

struct field {
	const char *name;		/* NULL ends a table */
	size_t offset;
	enum codec codec;
	const char *words;
	bool optional;			/* may be left out, and is then not read */
	void (*read)(struct reader *r, const struct json *value, void *at);
	void (*write)(struct writer *w, const void *at);
};

#define FIELD(type, codec, name, member) { name, offsetof(type, member), codec, NULL, false, NULL, NULL }
#define FIELD_WORD(type, words, name, member) \
	{ name, offsetof(type, member), CODEC_WORD, words, false, NULL, NULL }
#define FIELD_READ(name, read) { name, 0, CODEC_NONE, NULL, false, read, NULL }
#define FIELD_WRITE(name, write) { name, 0, CODEC_NONE, NULL, false, NULL, write }
#define FIELDS_END { NULL, 0, CODEC_NONE, NULL, false, NULL, NULL }

/* json.c: the tree of `text`, or NULL with the reader's error set. It is never freed: a process reads one. */
const struct json *json_parse(struct reader *r, const char *text, size_t len);
bool piece_is(struct piece piece, const char *word);

/* read.c: note what is wrong here; the text is `what is wrong; remedy`. */
__attribute__((format(printf, 2, 3))) void refuse(struct reader *r, const char *format, ...);
/* read.c: the member `name` of an object, or NULL. */
const struct json *json_member(const struct json *object, const char *name);
/* read.c: fill the struct at `base` by a table; every member must be known, and every field there. */
void read_fields(struct reader *r, const struct json *object, const struct field *fields, void *base);
void read_member(struct reader *r, const struct json *object, const struct field *field, void *base);
/* read.c: call `read` for each element of an array of at most `max`, with `at` that many `stride` further; how many. */
uint32_t read_array(struct reader *r, const struct json *array, uint32_t max, size_t stride,
		    void (*read)(struct reader *, const struct json *, void *), void *at);
int64_t read_integer(struct reader *r, const struct json *value, int64_t low, int64_t high);
uint64_t read_u64(struct reader *r, const struct json *value);
bool read_bool(struct reader *r, const struct json *value);
/* read.c: the constant of enum xmc_`words` that a string names. */
uint32_t read_word(struct reader *r, const struct json *value, const char *words);
/* read.c: bytes of a string of hex digits, at most `max`; how many. */
uint32_t read_hex(struct reader *r, const struct json *value, uint8_t *bytes, uint32_t max);

/* write.c: JSON to a stream. Commas are its business; numbers and strings come as elements or, after a key, members. */
struct writer {
	FILE *to;
	bool comma;
	const void *job;		/* what the fields' own functions need beside the struct */
};

void write_key(struct writer *w, const char *key);
void write_key_piece(struct writer *w, struct piece key);
void write_open(struct writer *w, char bracket);
void write_close(struct writer *w, char bracket);
void write_u64(struct writer *w, uint64_t value);
void write_i64(struct writer *w, int64_t value);
void write_bool(struct writer *w, bool value);
void write_null(struct writer *w);
void write_seconds(struct writer *w, uint64_t ns);
void write_signal(struct writer *w, int32_t number);
void write_hex(struct writer *w, const uint8_t *bytes, uint32_t len);
/* As a string: `text` as it is, so it holds no quote, backslash or control character; or a piece, escaped already. */
void write_text(struct writer *w, const char *text);
void write_piece(struct writer *w, struct piece piece);
/* The members that a table describes, into the object that is open. */
void write_fields(struct writer *w, const struct field *fields, const void *base);

/* words.c: the word for a constant of enum xmc_`words`, or NULL; and the other way round, -1 where there is none. */
const char *word_of(const char *words, uint32_t constant);
int64_t word_constant(const char *words, struct piece word);
/* words.c: all of them, as in `a, b, c`. */
void words_list(const char *words, char *list, size_t size);
/* words.c: call `each` for every constant of an enum. */
void words_each(const char *words, void (*each)(void *with, const char *word, uint32_t constant), void *with);
#endif
