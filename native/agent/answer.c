/* answer.c - how a run ended, and the other answers: mixes, and what a probe found. */
#define _GNU_SOURCE			/* strerrorname_np */
#include "agent.h"
#include <errno.h>
#include <string.h>

/* ` at writer step 3 (store rest new)`, or nothing. */
static void where_it_failed(const struct view *v, char *text, size_t size)
{
	uint64_t failed = v->result->writer.failed_step;
	const struct json *step = v->job->writer->first;
	size_t used;

	text[0] = '\0';
	if (!failed || failed > v->job->writer->n)
		return;
	for (uint64_t i = 1; i < failed; i++)
		step = step->next;
	used = (size_t)snprintf(text, size, " at writer step %u (", (unsigned)failed);
	for (const struct json *word = step->first; word; word = word->next)
		used += (size_t)snprintf(text + used, size - used, "%.*s%s", (int)word->text.len, word->text.at,
					 word->next ? " " : ")");
}

static bool is_refusal(int code)
{
	return code == ENOTSUP || code == EACCES || code == EPERM || code == EOPNOTSUPP;
}

void write_status(struct writer *w, const void *at)
{
	int code = -view_of(w)->rc;

	(void)at;
	write_text(w, !code ? "ok" : is_refusal(code) ? "skipped" : code == ETIMEDOUT ? "timeout" : "error");
}

/* As stress/native.py words it. */
void write_reason(struct writer *w, const void *at)
{
	const struct view *v = view_of(w);
	int code = -v->rc;
	char where[200], text[400] = "";
	const char *what = code == ECHILD ? "the writer's process ended by itself" : strerror(code);

	(void)at;
	where_it_failed(v, where, sizeof(where));
	if (is_refusal(code))
		snprintf(text, sizeof(text), "refused by this machine: %s%s", what, where);
	else if (code && strerrorname_np(code))
		snprintf(text, sizeof(text), "the native core ended with %s: %s%s", strerrorname_np(code), what, where);
	else if (code)
		snprintf(text, sizeof(text), "the native core ended with %d: %s%s", code, what, where);
	write_text(w, text);
}

void mixes_write(struct writer *w, const struct xmc_signature *signatures, uint32_t n, int rc)
{
	write_open(w, '{');
	write_key(w, "error");
	write_i64(w, -rc);
	write_key(w, "signatures");
	write_open(w, '[');
	for (uint32_t i = 0; i < n && !rc; i++) {
		write_open(w, '[');
		write_signal(w, signatures[i].signal);
		write_i64(w, signatures[i].code);
		write_i64(w, signatures[i].pc);
		write_u64(w, signatures[i].value);
		write_close(w, ']');
	}
	write_close(w, ']');
	write_close(w, '}');
}

struct features {
	struct writer *w;
	uint64_t mask;
};

static void write_feature(void *with, const char *word, uint32_t constant)
{
	struct features *features = with;

	if (features->mask & constant)
		write_text(features->w, word);
}

static void write_features(struct writer *w, const void *at)
{
	struct features features = { w, ((const struct xmc_probe *)at)->features };

	write_open(w, '[');
	words_each("feature", write_feature, &features);
	write_close(w, ']');
}

static void write_vendor(struct writer *w, const void *at)
{
	write_text(w, ((const struct xmc_probe *)at)->vendor);
}

static void write_isa(struct writer *w, const void *at)
{
	write_text(w, ((const struct xmc_probe *)at)->isa);
}

static void write_version(struct writer *w, const void *at)
{
	(void)at;
	write_text(w, AGENT_VERSION);
}

void probe_write(struct writer *w, const struct xmc_probe *probe)
{
	static const struct field fields[] = {
		FIELD_WRITE("version", write_version),
		FIELD_WRITE("vendor", write_vendor),
		FIELD_WRITE("isa", write_isa),
		FIELD_WRITE("features", write_features),
		FIELD(struct xmc_probe, CODEC_U64, "membarrier", membarrier),
		FIELD(struct xmc_probe, CODEC_U64, "tsc_hz", tsc_hz),
		FIELD(struct xmc_probe, CODEC_U32, "line_bytes", line_bytes),
		FIELD(struct xmc_probe, CODEC_U32, "step_ops", step_ops),
		FIELD(struct xmc_probe, CODEC_U32, "exec_ops", exec_ops),
		FIELDS_END,
	};

	write_open(w, '{');
	write_fields(w, fields, probe);
	write_close(w, '}');
}
