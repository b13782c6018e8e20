/* agent.h - the native core as a program of its own: a plan in, the counted half of its record out, both JSON. */
#ifndef XMC_AGENT_H
#define XMC_AGENT_H
#include "../xmc.h"
#include "json.h"

/* A plan as it came in: what the core wants of it, and the names that it does not want. */
struct job {
	struct xmc_plan plan;
	struct xmc_publish publish;
	bool published;			/* the publish shape: `publish` counts */
	const struct json *provocations;	/* their names are keys of the record */
	const struct json *writer;	/* the steps as they stood, for whoever is told of one that failed */
};

/* What the fields of a record look into: the run as a whole. */
struct view {
	const struct job *job;
	const struct xmc_result *result;
	int rc;				/* what the core returned */
};

static inline const struct view *view_of(const struct writer *w)
{
	return w->job;
}

/* plan.c: fill `job` from the `plan` of a record, or set the reader's error. */
void plan_read(struct reader *r, const struct json *plan, struct job *job);

/* plan.c fills this. */
static inline struct job *job_of(struct reader *r)
{
	return r->job;
}

/* discipline.c: fields of a plan at `at`, a struct xmc_plan; the shape must have been read. */
void read_writer(struct reader *r, const struct json *value, void *at);
void read_executor(struct reader *r, const struct json *value, void *at);
void read_provocations(struct reader *r, const struct json *value, void *at);
void read_turns(struct reader *r, const struct json *value, void *at);

/* record.c: what `result` says about the run of `job`, with what the core returned, as one object. */
void record_write(struct writer *w, const struct job *job, const struct xmc_result *result, int rc);
/* answer.c: the fields `status` and `reason` of a record; w->job is the view. */
void write_status(struct writer *w, const void *at);
void write_reason(struct writer *w, const void *at);

/* words.c: the registers of the struct xmc_event at `at`, by name. */
void write_event_registers(struct writer *w, const void *at);
/* answer.c: how each of `n` mixes showed itself, or why they could not be executed; one object. */
void mixes_write(struct writer *w, const struct xmc_signature *signatures, uint32_t n, int rc);
/* answer.c: what a probe found; one object. */
void probe_write(struct writer *w, const struct xmc_probe *probe);
#endif
