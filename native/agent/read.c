/* read.c - fill structs from a tree of JSON by their tables, and refuse what does not fit. */
#include "json.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void refuse(struct reader *r, const char *format, ...)
{
	size_t used = strlen(r->path);
	va_list arguments;

	if (r->error[0])
		return;
	memcpy(r->error, r->path, used);
	if (used)
		used += (size_t)snprintf(r->error + used, sizeof(r->error) - used, ": ");
	va_start(arguments, format);
	vsnprintf(r->error + used, sizeof(r->error) - used, format, arguments);
	va_end(arguments);
	/* A key of the input may hold anything; the error is one line. */
	for (char *c = r->error; *c; c++)
		if ((uint8_t)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

/* Go one step deeper: the place to come back to. */
static size_t enter(struct reader *r, const char *format, const char *name, uint32_t index)
{
	size_t before = strlen(r->path);

	snprintf(r->path + before, sizeof(r->path) - before, format, name, index);
	return before;
}

static void leave(struct reader *r, size_t before)
{
	r->path[before] = '\0';
}

const struct json *json_member(const struct json *object, const char *name)
{
	for (const struct json *member = object->first; member; member = member->next)
		if (object->type == JSON_OBJECT && piece_is(member->key, name))
			return member;
	return NULL;
}

/* A whole number as its sign and its magnitude; false where it is none, or larger than 64 bits. */
static bool whole(const struct json *value, bool *negative, uint64_t *magnitude)
{
	char digits[24];
	char *end;

	if (value->type != JSON_NUMBER || value->text.len >= sizeof(digits))
		return false;
	memcpy(digits, value->text.at, value->text.len);
	digits[value->text.len] = '\0';
	*negative = digits[0] == '-';
	errno = 0;
	*magnitude = strtoull(digits + *negative, &end, 10);
	return !*end && !errno;
}

int64_t read_integer(struct reader *r, const struct json *value, int64_t low, int64_t high)
{
	uint64_t magnitude = 0;
	bool negative = false;
	int64_t number;

	if (whole(value, &negative, &magnitude) && magnitude <= INT64_MAX) {
		number = negative ? -(int64_t)magnitude : (int64_t)magnitude;
		if (number >= low && number <= high)
			return number;
	}
	refuse(r, "does not fit; give a whole number from %" PRId64 " to %" PRId64, low, high);
	return low;
}

uint64_t read_u64(struct reader *r, const struct json *value)
{
	uint64_t magnitude = 0;
	bool negative = false;

	if (!whole(value, &negative, &magnitude) || (negative && magnitude))
		refuse(r, "does not fit; give a whole number from 0 to %" PRIu64, UINT64_MAX);
	return magnitude;
}

bool read_bool(struct reader *r, const struct json *value)
{
	if (value->type != JSON_FALSE && value->type != JSON_TRUE)
		refuse(r, "is neither; give true or false");
	return value->type == JSON_TRUE;
}

uint32_t read_word(struct reader *r, const struct json *value, const char *words)
{
	int64_t constant = value->type == JSON_STRING ? word_constant(words, value->text) : -1;
	char list[400];

	if (constant < 0) {
		words_list(words, list, sizeof(list));
		refuse(r, "is not known here; give one of %s", list);
	}
	return constant < 0 ? 0 : (uint32_t)constant;
}

/* Nanoseconds of a number of seconds, cut off as Python's int() does. */
static uint64_t read_seconds(struct reader *r, const struct json *value)
{
	char text[64] = "";
	double seconds = -1;

	if (value->type == JSON_NUMBER && value->text.len < sizeof(text)) {
		memcpy(text, value->text.at, value->text.len);
		seconds = strtod(text, NULL);
	}
	if (!(seconds >= 0 && seconds < 1e10)) {
		refuse(r, "does not fit; give seconds, from 0 up to 1e10");
		return 0;
	}
	return (uint64_t)(seconds * 1e9);
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

uint32_t read_hex(struct reader *r, const struct json *value, uint8_t *bytes, uint32_t max)
{
	uint32_t n = (uint32_t)(value->text.len / 2);
	bool good = value->type == JSON_STRING && value->text.len % 2 == 0 && value->text.len <= 2 * (size_t)max;

	for (uint32_t i = 0; i < n && good; i++) {
		int high = nibble(value->text.at[2 * i]), low = nibble(value->text.at[2 * i + 1]);

		good = high >= 0 && low >= 0;
		if (good)
			bytes[i] = (uint8_t)(high << 4 | low);
	}
	if (!good)
		refuse(r, "does not fit; give up to %u bytes as pairs of the digits 0-9a-f", max);
	return good ? n : 0;
}

static void read_codec(struct reader *r, const struct field *field, const struct json *value, void *at)
{
	switch (field->codec) {
	case CODEC_U32:
		*(uint32_t *)at = (uint32_t)read_integer(r, value, 0, UINT32_MAX);
		break;
	case CODEC_I32:
		*(int32_t *)at = (int32_t)read_integer(r, value, INT32_MIN, INT32_MAX);
		break;
	case CODEC_U64:
		*(uint64_t *)at = read_u64(r, value);
		break;
	case CODEC_BOOL:
		*(uint32_t *)at = read_bool(r, value);
		break;
	case CODEC_WORD:
		*(uint32_t *)at = read_word(r, value, field->words);
		break;
	case CODEC_SECONDS:
		*(uint64_t *)at = read_seconds(r, value);
		break;
	default: /* said by the plan, and of no use to the core */
		break;
	}
}

void read_member(struct reader *r, const struct json *object, const struct field *field, void *base)
{
	const struct json *value = json_member(object, field->name);
	size_t before = enter(r, ".%s", field->name, 0);

	if (value && field->read)
		field->read(r, value, base);
	else if (value)
		read_codec(r, field, value, (uint8_t *)base + field->offset);
	else if (!field->optional)
		refuse(r, "is missing; give the whole plan, as a record has it");
	leave(r, before);
}

/* In the order of the table, not of the text: a field may need what was read before it. */
void read_fields(struct reader *r, const struct json *object, const struct field *fields, void *base)
{
	if (object->type != JSON_OBJECT) {
		refuse(r, "is no object; give {...}");
		return;
	}
	for (const struct json *member = object->first; member; member = member->next) {
		const struct field *field = fields;

		while (field->name && !piece_is(member->key, field->name))
			field++;
		if (!field->name)
			refuse(r, "has the unknown key \"%.*s\"; the agent is older than the plan, or not its own",
			       (int)(member->key.len < 40 ? member->key.len : 40), member->key.at);
	}
	for (const struct field *field = fields; field->name; field++)
		read_member(r, object, field, base);
}

uint32_t read_array(struct reader *r, const struct json *array, uint32_t max, size_t stride,
		    void (*read)(struct reader *, const struct json *, void *), void *at)
{
	uint32_t n = 0;

	if (array->type != JSON_ARRAY || array->n > max) {
		refuse(r, "does not fit; give a list of up to %u", max);
		return 0;
	}
	for (const struct json *element = array->first; element; element = element->next, n++) {
		size_t before = enter(r, "%s[%u]", "", n);

		read(r, element, (uint8_t *)at + n * stride);
		leave(r, before);
	}
	return n;
}
