/* record.c - what the core counted, as the counted half of a record: what stress/blackbox.py makes of the same box. */
#include "agent.h"
#include <string.h>

#define USAGE(type) \
	FIELD(type, CODEC_I32, "cpu", cpu_last), FIELD(type, CODEC_I32, "cpu_first", cpu_first), \
		FIELD(type, CODEC_SECONDS, "cpu_seconds", cpu_ns), \
		FIELD(type, CODEC_U64, "switches_voluntary", switches_voluntary), \
		FIELD(type, CODEC_U64, "switches_forced", switches_forced)

static uint32_t executors(const struct view *v)
{
	return v->job->plan.n_executors;
}

/* Outcomes by phase under the provocations from `first` to before `end`, of all executors; zeros left out. */
static void write_outcomes(struct writer *w, uint32_t first, uint32_t end)
{
	const struct view *v = view_of(w);

	write_open(w, '{');
	for (uint32_t phase = 0; phase < XMC_PHASES; phase++) {
		uint64_t row[XMC_OUTCOMES] = { 0 }, sum = 0;

		for (uint32_t outcome = 0; outcome < XMC_OUTCOMES; outcome++) {
			for (uint32_t x = 0; x < executors(v); x++)
				for (uint32_t s = first; s < end; s++)
					row[outcome] += v->result->executors[x].slices[s].outcomes[phase][outcome];
			sum += row[outcome];
		}
		if (!sum)
			continue;
		write_key(w, word_of("phase", phase));
		write_open(w, '{');
		for (uint32_t outcome = 0; outcome < XMC_OUTCOMES; outcome++)
			if (row[outcome]) {
				write_key(w, word_of("outcome", outcome));
				write_u64(w, row[outcome]);
			}
		write_close(w, '}');
	}
	write_close(w, '}');
}

static void write_all_outcomes(struct writer *w, const void *at)
{
	(void)at;
	write_outcomes(w, 0, view_of(w)->job->plan.n_provocations);
}

/* What a provocation's antagonist did, and with whom it shared its CPU; nothing where there was none. */
static void write_antagonist(struct writer *w, const struct view *v, uint32_t provocation)
{
	const struct xmc_plan *plan = &v->job->plan;
	int32_t cpu = plan->provocations[provocation].antagonist_cpu;

	if (cpu < 0)
		return;
	write_key(w, "antagonist");
	write_open(w, '{');
	write_key(w, "cpu");
	write_i64(w, cpu);
	write_key(w, "shares");
	write_text(w, cpu == plan->writer_cpu ? "writer" : "");
	write_key(w, "rounds");
	write_u64(w, v->result->antagonist_rounds[provocation]);
	write_close(w, '}');
}

static void write_provocations(struct writer *w, const void *at)
{
	const struct view *v = view_of(w);
	const struct json *p = v->job->provocations->first;

	(void)at;
	write_open(w, '{');
	for (uint32_t i = 0; p; p = p->next, i++) {
		write_key_piece(w, json_member(p, "name")->text);
		write_open(w, '{');
		write_key(w, "seconds");
		write_seconds(w, v->result->slice_ns[i]);
		write_key(w, "patches");
		write_u64(w, v->result->writer.slice_patches[i]);
		write_key(w, "outcomes");
		write_outcomes(w, i, i + 1);
		write_antagonist(w, v, i);
		write_close(w, '}');
	}
	write_close(w, '}');
}

static void write_signatures(struct writer *w, const void *at)
{
	static const struct field fields[] = {
		FIELD(struct xmc_signature, CODEC_U64, "count", count),
		FIELD_WORD(struct xmc_signature, "outcome", "outcome", outcome),
		FIELD_WORD(struct xmc_signature, "phase", "phase", phase),
		FIELD(struct xmc_signature, CODEC_SIGNAL, "signal", signal),
		FIELD(struct xmc_signature, CODEC_I32, "code", code),
		FIELD(struct xmc_signature, CODEC_I64, "pc", pc),
		FIELD(struct xmc_signature, CODEC_U64, "value", value),
		FIELDS_END,
	};
	const struct view *v = view_of(w);

	(void)at;
	write_open(w, '[');
	for (uint32_t x = 0; x < executors(v); x++)
		for (uint32_t i = 0; i < XMC_SIGNATURES_MAX; i++) {
			const struct xmc_signature *s = &v->result->executors[x].signatures[i];

			if (!s->count)
				continue;
			write_open(w, '{');
			write_fields(w, fields, s);
			write_close(w, '}');
		}
	write_close(w, ']');
}

static void write_event_provocation(struct writer *w, const void *at)
{
	const struct json *p = view_of(w)->job->provocations->first;

	for (uint32_t i = ((const struct xmc_event *)at)->provocation; i && p->next; i--)
		p = p->next;
	write_piece(w, json_member(p, "name")->text);
}

static void write_event_bytes(struct writer *w, const void *at)
{
	write_hex(w, ((const struct xmc_event *)at)->bytes, XMC_EVENT_BYTES);
}

static void write_events(struct writer *w, const void *at)
{
	static const struct field fields[] = {
		FIELD(struct xmc_event, CODEC_U64, "tsc", tsc),
		FIELD(struct xmc_event, CODEC_U64, "done", done),
		FIELD(struct xmc_event, CODEC_U64, "begun", begun),
		FIELD_WORD(struct xmc_event, "outcome", "outcome", outcome),
		FIELD_WORD(struct xmc_event, "phase", "phase", phase),
		FIELD_WRITE("provocation", write_event_provocation),
		FIELD(struct xmc_event, CODEC_SIGNAL, "signal", signal),
		FIELD(struct xmc_event, CODEC_I32, "code", code),
		FIELD(struct xmc_event, CODEC_I64, "pc", pc),
		FIELD(struct xmc_event, CODEC_U64, "value", value),
		FIELD_WRITE("bytes", write_event_bytes),
		FIELD(struct xmc_event, CODEC_U64, "stale_by", stale_by),
		FIELD(struct xmc_event, CODEC_U64, "stale_ticks", stale_ticks),
		FIELD_WRITE("registers", write_event_registers),
		FIELDS_END,
	};
	const struct view *v = view_of(w);

	(void)at;
	write_open(w, '[');
	for (uint32_t x = 0; x < executors(v); x++) {
		const struct xmc_executor_result *ex = &v->result->executors[x];
		uint64_t kept = ex->recorded < XMC_EVENTS_MAX ? ex->recorded : XMC_EVENTS_MAX;

		for (uint64_t i = ex->recorded - kept; i < ex->recorded; i++) {
			write_open(w, '{');
			write_fields(w, fields, &ex->ring[i % XMC_EVENTS_MAX]);
			write_close(w, '}');
		}
	}
	write_close(w, ']');
}

/* A histogram that lies `offset` bytes into each executor's result, summed; empty buckets left out. */
static void write_histogram(struct writer *w, size_t offset)
{
	const struct view *v = view_of(w);
	char bucket[16];

	write_open(w, '{');
	for (uint32_t i = 0; i < XMC_BUCKETS; i++) {
		uint64_t sum = 0;

		for (uint32_t x = 0; x < executors(v); x++)
			sum += ((const uint64_t *)((const uint8_t *)&v->result->executors[x] + offset))[i];
		if (!sum)
			continue;
		snprintf(bucket, sizeof(bucket), "%u", i);
		write_key(w, bucket);
		write_u64(w, sum);
	}
	write_close(w, '}');
}

static void write_stale_generations(struct writer *w, const void *at)
{
	(void)at;
	write_histogram(w, offsetof(struct xmc_executor_result, stale_generations));
}

static void write_stale_ticks(struct writer *w, const void *at)
{
	(void)at;
	write_histogram(w, offsetof(struct xmc_executor_result, stale_ticks));
}

static void write_writer(struct writer *w, const void *at)
{
	static const struct field fields[] = {
		USAGE(struct xmc_writer_result),
		FIELD(struct xmc_writer_result, CODEC_U64, "hops", hops),
		FIELDS_END,
	};

	(void)at;
	write_open(w, '{');
	write_fields(w, fields, &view_of(w)->result->writer);
	write_close(w, '}');
}

static void write_executors(struct writer *w, const void *at)
{
	static const struct field fields[] = {
		USAGE(struct xmc_executor_result),
		FIELD(struct xmc_executor_result, CODEC_U64, "events", events),
		FIELD(struct xmc_executor_result, CODEC_U64, "clobbers", clobbers),
		FIELD(struct xmc_executor_result, CODEC_U64, "signatures_lost", signatures_lost),
		FIELD(struct xmc_executor_result, CODEC_SECONDS_OR_NULL, "first_event_seconds", first_event_ns),
		FIELDS_END,
	};
	const struct view *v = view_of(w);

	(void)at;
	write_open(w, '[');
	for (uint32_t x = 0; x < executors(v); x++) {
		write_open(w, '{');
		write_fields(w, fields, &v->result->executors[x]);
		write_close(w, '}');
	}
	write_close(w, ']');
}

static void write_crash(struct writer *w, const void *at)
{
	static const struct field fields[] = {
		FIELD(struct xmc_crash, CODEC_SIGNAL, "signal", signal),
		FIELD(struct xmc_crash, CODEC_U64, "pc", pc),
		FIELD(struct xmc_crash, CODEC_U64, "address", address),
		FIELDS_END,
	};
	const struct xmc_crash *crash = &view_of(w)->result->crash;

	(void)at;
	if (!crash->signal) {
		write_null(w);
		return;
	}
	write_open(w, '{');
	write_fields(w, fields, crash);
	write_close(w, '}');
}

static uint64_t sum_pair(const struct view *v, size_t offset)
{
	uint64_t sum = 0;

	for (uint32_t x = 0; x < executors(v); x++)
		sum += *(const uint64_t *)((const uint8_t *)v->result->executors[x].pairs + offset);
	return sum;
}

static void write_pairs(struct writer *w, const void *at)
{
	const struct view *v = view_of(w);

	(void)at;
	write_open(w, '[');
	for (uint32_t i = 0; i < v->job->plan.patch_len && v->job->plan.observe; i++) {
		size_t pair = i * sizeof(struct xmc_pair);

		write_open(w, '{');
		write_key(w, "samples");
		write_open(w, '[');
		for (uint32_t order = 0; order < 2; order++)
			write_u64(w, sum_pair(v, pair + offsetof(struct xmc_pair, samples) + order * 8));
		write_close(w, ']');
		write_key(w, "tears");
		write_open(w, '[');
		for (uint32_t order = 0; order < 2; order++) {
			write_open(w, '[');
			for (uint32_t s = 0; s < XMC_WITNESS_STORES; s++)
				write_u64(w, sum_pair(v, pair + offsetof(struct xmc_pair, tears) +
								 (order * XMC_WITNESS_STORES + s) * 8));
			write_close(w, ']');
		}
		write_close(w, ']');
		write_close(w, '}');
	}
	write_close(w, ']');
}

/* One string: turn, nanoseconds, reward of each slice, a space between them. */
static void write_choices(struct writer *w, const void *at)
{
	static char text[XMC_CHOICES_MAX * 64];
	const struct xmc_result *result = at;
	uint64_t kept = result->n_choices < XMC_CHOICES_MAX ? result->n_choices : XMC_CHOICES_MAX;
	size_t len = 0;

	text[0] = 0;
	for (uint64_t i = 0; i < kept; i++) {
		const struct xmc_choice *c = &result->choices[i];

		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u,%llu,%llu", i ? " " : "", c->turn,
					(unsigned long long)c->ns, (unsigned long long)c->reward);
	}
	write_text(w, text);
}

void record_write(struct writer *w, const struct job *job, const struct xmc_result *result, int rc)
{
	static const struct field fields[] = {
		FIELD_WRITE("status", write_status),
		FIELD_WRITE("reason", write_reason),
		FIELD(struct xmc_result, CODEC_SECONDS, "seconds", elapsed_ns),
		FIELD(struct xmc_result, CODEC_U64, "patches", writer.patches),
		FIELD_WRITE("outcomes", write_all_outcomes),
		FIELD_WRITE("provocations", write_provocations),
		FIELD_WRITE("signatures", write_signatures),
		FIELD_WRITE("stale_generations", write_stale_generations),
		FIELD_WRITE("stale_ticks", write_stale_ticks),
		FIELD_WRITE("writer", write_writer),
		FIELD_WRITE("executors", write_executors),
		FIELD(struct xmc_result, CODEC_U64, "tsc_hz", tsc_hz),
		FIELD(struct xmc_result, CODEC_U64, "slices", n_choices),
		FIELD_WRITE("choices", write_choices),
		FIELD(struct xmc_result, CODEC_U32, "signals_sent", signals_sent),
		FIELD(struct xmc_result, CODEC_U32, "hangs_signalled", hangs_signalled),
		FIELD(struct xmc_result, CODEC_U32, "guard_waits", guard_waits),
		FIELD(struct xmc_result, CODEC_U32, "huge_pages", huge_pages),
		FIELD(struct xmc_result, CODEC_BOOL, "syscalls_contained", syscalls_contained),
		FIELD_WRITE("crash", write_crash),
		FIELD_WRITE("pairs", write_pairs),
		FIELD_WRITE("events", write_events),
		FIELDS_END,
	};
	const struct view view = { job, result, rc };

	w->job = &view;
	write_open(w, '{');
	write_fields(w, fields, result);
	write_close(w, '}');
}
