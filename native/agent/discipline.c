/* discipline.c - the steps of a plan: the writer's, the executors', and those of provocations. */
#include "agent.h"
#include <string.h>

#define PROVOCATION_STEPS 4		/* of a provocation, as in struct xmc_provocation */

/* Which enum the second word of a step is of; and whether the core wants its constant as the step's value. */
struct second {
	const char *ops;
	uint32_t op;
	const char *words;
	bool is_value;
};

static const struct second *second_of(const char *ops, uint32_t op)
{
	static const struct second others[] = {
		{ "step_op", XMC_STEP_MEMBARRIER, "membarrier", false },
		{ "step_op", XMC_STEP_PROTECT, "protect", false },
		{ "pub_op", XMC_PUB_MEMBARRIER, "membarrier", false },
		{ "pub_op", XMC_PUB_MAP, "rights", true },
		{ "pub_op", XMC_PUB_PROTECT, "rights", true },
	};
	static const struct second usual = { NULL, 0, "part", false };

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (others[i].op == op && !strcmp(others[i].ops, ops))
			return &others[i];
	return &usual;
}

static bool is_empty(const struct json *value)
{
	return value->type == JSON_STRING && !value->text.len;
}

/* [op, part, value], both of the latter "" where a step takes none. */
static void read_step_of(struct reader *r, const struct json *value, const char *ops, struct xmc_step *step)
{
	const struct json *op = value->first, *part, *argument;
	const struct second *second;

	if (value->type != JSON_ARRAY || value->n != 3) {
		refuse(r, "is no step; give [op, part, value]");
		return;
	}
	part = op->next;
	argument = part->next;
	step->op = read_word(r, op, ops);
	second = second_of(ops, step->op);
	if (argument->type == JSON_NUMBER)
		step->value = read_u64(r, argument);
	else if (!is_empty(argument))
		step->value = read_word(r, argument, "value");
	if (is_empty(part))
		return;
	if (second->is_value)
		step->value = read_word(r, part, second->words);
	else
		step->part = read_word(r, part, second->words);
}

static void read_step(struct reader *r, const struct json *value, void *at)
{
	read_step_of(r, value, "step_op", at);
}

static void read_publish_step(struct reader *r, const struct json *value, void *at)
{
	read_step_of(r, value, "pub_op", at);
}

/* [op, whether only on a change] */
static void read_exec_step(struct reader *r, const struct json *value, void *at)
{
	struct xmc_exec_step *step = at;

	if (value->type != JSON_ARRAY || value->n != 2) {
		refuse(r, "is no executor step; give [op, on-change]");
		return;
	}
	step->op = read_word(r, value->first, "exec_op");
	step->when = read_bool(r, value->first->next) ? XMC_ON_CHANGE : XMC_ALWAYS;
}

void read_writer(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;
	struct job *job = job_of(r);

	job->writer = value;
	if (job->published)
		job->publish.n_steps = read_array(r, value, XMC_STEPS_MAX, sizeof(struct xmc_step),
						  read_publish_step, job->publish.steps);
	else
		plan->n_steps = read_array(r, value, XMC_STEPS_MAX, sizeof(struct xmc_step), read_step, plan->steps);
}

void read_executor(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;

	plan->n_exec_steps = read_array(r, value, XMC_STEPS_MAX, sizeof(struct xmc_exec_step), read_exec_step,
					plan->exec_steps);
}

static void read_provocation_name(struct reader *r, const struct json *value, void *at)
{
	(void)at;
	if (value->type != JSON_STRING)
		refuse(r, "is no name; give a string");
}

static void read_provocation_writer(struct reader *r, const struct json *value, void *at)
{
	struct xmc_provocation *p = at;

	p->n_writer = read_array(r, value, PROVOCATION_STEPS, sizeof(p->writer[0]), read_step, p->writer);
}

static void read_provocation_executor(struct reader *r, const struct json *value, void *at)
{
	struct xmc_provocation *p = at;

	p->n_executor = read_array(r, value, PROVOCATION_STEPS, sizeof(p->executor[0]), read_exec_step, p->executor);
}

/* "" is none. */
static void read_antagonist(struct reader *r, const struct json *value, void *at)
{
	bool none = value->type == JSON_STRING && !value->text.len;

	((struct xmc_provocation *)at)->antagonist = none ? XMC_ANTAGONIST_NONE : read_word(r, value, "antagonist");
}

static void read_provocation(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD_READ("name", read_provocation_name),
		FIELD_READ("writer", read_provocation_writer),
		FIELD_READ("executor", read_provocation_executor),
		FIELD(struct xmc_provocation, CODEC_U32, "signal_us", signal_us),
		FIELD_READ("antagonist", read_antagonist),
		FIELD(struct xmc_provocation, CODEC_I32, "antagonist_cpu", antagonist_cpu),
		FIELDS_END,
	};

	read_fields(r, value, fields, at);
}

void read_provocations(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;

	job_of(r)->provocations = value;
	plan->n_provocations = read_array(r, value, XMC_PROVOCATIONS_MAX, sizeof(plan->provocations[0]),
					  read_provocation, plan->provocations);
}

/* [provocation, pace_log2, executors] */
static void read_turn(struct reader *r, const struct json *value, void *at)
{
	struct xmc_turn *turn = at;
	const struct json *pace;

	if (value->type != JSON_ARRAY || value->n != 3) {
		refuse(r, "is no turn; give [provocation, pace_log2, executors]");
		return;
	}
	pace = value->first->next;
	turn->provocation = (uint32_t)read_integer(r, value->first, 0, UINT32_MAX);
	turn->pace_log2 = (uint32_t)read_integer(r, pace, 0, UINT32_MAX);
	turn->executors = (uint32_t)read_integer(r, pace->next, 0, UINT32_MAX);
}

void read_turns(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;

	plan->n_turns = read_array(r, value, XMC_TURNS_MAX, sizeof(plan->turns[0]), read_turn, plan->turns);
}
