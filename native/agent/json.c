/* json.c - parse JSON text into a tree, and nothing else than JSON. */
#include "json.h"
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16
#define MEMBERS_MAX 256			/* of one object: each new key is compared with all before it */

struct parser {
	const char *at;
	const char *end;
	const char *wrong;		/* what was expected where the text is wrong */
	int depth;
};

static struct json *parse_value(struct parser *p);

static struct json *fail(struct parser *p, const char *wrong)
{
	if (!p->wrong)
		p->wrong = wrong;
	return NULL;
}

static void skip_space(struct parser *p)
{
	while (p->at < p->end && strchr(" \t\r\n", *p->at) && *p->at)
		p->at++;
}

static bool take(struct parser *p, char c)
{
	skip_space(p);
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static struct json *make(struct parser *p, enum json_type type)
{
	struct json *made = calloc(1, sizeof(*made));

	if (!made)
		return fail(p, "more memory");
	made->type = type;
	return made;
}

/* How long the UTF-8 sequence is that begins with `lead`; 0: none does. The bounds of its second byte shut out longer
 * forms than needed, surrogates and what lies beyond U+10FFFF (RFC 3629, section 4). */
static int sequence(uint8_t lead, uint8_t *low, uint8_t *high)
{
	*low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
	*high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
	return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

static bool take_character(struct parser *p)
{
	uint8_t low, high;
	int n = sequence((uint8_t)*p->at, &low, &high);

	if (n < 1 || n > p->end - p->at)
		return false;
	for (int i = 1; i < n; i++) {
		uint8_t byte = (uint8_t)p->at[i];

		if (byte < (i == 1 ? low : 0x80) || byte > (i == 1 ? high : 0xbf))
			return false;
	}
	p->at += n;
	return true;
}

static bool take_escape(struct parser *p)
{
	p->at++;
	if (p->at == p->end || !*p->at || !strchr("\"\\/bfnrtu", *p->at))
		return false;
	if (*p->at++ != 'u')
		return true;
	for (int i = 0; i < 4; i++, p->at++)
		if (p->at == p->end || !*p->at || !strchr("0123456789abcdefABCDEF", *p->at))
			return false;
	return true;
}

/* The text behind an opening quote, up to the closing one, which is taken. */
static bool take_string(struct parser *p, struct piece *text)
{
	text->at = p->at;
	while (p->at < p->end && *p->at != '"')
		if ((uint8_t)*p->at < 0x20 || !(*p->at == '\\' ? take_escape(p) : take_character(p)))
			return false;
	if (p->at == p->end)
		return false;
	text->len = (size_t)(p->at++ - text->at);
	return true;
}

static bool take_digits(struct parser *p)
{
	const char *from = p->at;

	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return p->at > from;
}

static bool next_is(const struct parser *p, const char *any)
{
	return p->at < p->end && *p->at && strchr(any, *p->at);
}

static struct json *parse_number(struct parser *p)
{
	const char *from = p->at, *digits;
	struct json *made;

	p->at += next_is(p, "-");
	digits = p->at;
	if (!take_digits(p) || (*digits == '0' && p->at > digits + 1))
		return fail(p, "a value");
	if (next_is(p, ".") && (p->at++, !take_digits(p)))
		return fail(p, "a digit");
	if (next_is(p, "eE")) {
		p->at++;
		p->at += next_is(p, "+-");
		if (!take_digits(p))
			return fail(p, "a digit");
	}
	made = make(p, JSON_NUMBER);
	if (made)
		made->text = (struct piece){ from, (size_t)(p->at - from) };
	return made;
}

static struct json *parse_word(struct parser *p)
{
	static const char *const words[] = { [JSON_NULL] = "null", [JSON_FALSE] = "false", [JSON_TRUE] = "true" };

	for (int type = JSON_NULL; type <= JSON_TRUE; type++) {
		size_t len = strlen(words[type]);

		if ((size_t)(p->end - p->at) >= len && !memcmp(p->at, words[type], len)) {
			p->at += len;
			return make(p, (enum json_type)type);
		}
	}
	return parse_number(p);
}

static bool known(const struct json *object, struct piece key)
{
	for (const struct json *member = object->first; member; member = member->next)
		if (member->key.len == key.len && !memcmp(member->key.at, key.at, key.len))
			return true;
	return false;
}

/* The elements behind an opening bracket, and the closing one; of an object with their keys. */
static struct json *parse_elements(struct parser *p, enum json_type type)
{
	const char close = type == JSON_ARRAY ? ']' : '}';
	struct json *made = make(p, type), **last = made ? &made->first : NULL;

	while (made && !take(p, close)) {
		struct piece key = { 0 };

		if (made->n && !take(p, ','))
			return fail(p, "a comma or the closing bracket");
		if (type == JSON_OBJECT && (!take(p, '"') || !take_string(p, &key)))
			return fail(p, "a key in quotes");
		if (type == JSON_OBJECT && (made->n == MEMBERS_MAX || known(made, key)))
			return fail(p, "each key once only, and not hundreds of them");
		if (type == JSON_OBJECT && !take(p, ':'))
			return fail(p, "a colon");
		*last = parse_value(p);
		if (!*last)
			return NULL;
		(*last)->key = key;
		last = &(*last)->next;
		made->n++;
	}
	return made;
}

static struct json *parse_value(struct parser *p)
{
	struct json *made = NULL;

	if (p->depth == DEPTH_MAX)
		return fail(p, "fewer brackets inside each other");
	p->depth++;
	if (take(p, '{')) {
		made = parse_elements(p, JSON_OBJECT);
	} else if (take(p, '[')) {
		made = parse_elements(p, JSON_ARRAY);
	} else if (take(p, '"')) {
		struct piece text;

		made = take_string(p, &text) ? make(p, JSON_STRING) : fail(p, "a string that JSON allows");
		if (made)
			made->text = text;
	} else {
		made = p->at < p->end ? parse_word(p) : fail(p, "a value");
	}
	p->depth--;
	return made;
}

const struct json *json_parse(struct reader *r, const char *text, size_t len)
{
	struct parser p = { .at = text, .end = text + len };
	struct json *made = parse_value(&p);

	if (made) {
		skip_space(&p);
		if (p.at < p.end)
			made = fail(&p, "the end of the text");
	}
	if (!made)
		refuse(r, "is not JSON at byte %zu, where %s is wanted; give the `plan` of a record",
		       (size_t)(p.at - text), p.wrong);
	return made;
}

bool piece_is(struct piece piece, const char *word)
{
	return piece.len == strlen(word) && !memcmp(piece.at, word, piece.len);
}
