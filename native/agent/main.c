/*
 * main.c - stress-agent: the native core as a program, for machines and emulators without Python.
 *
 * stdin holds a plan, stdout gets what its record says was counted; stderr one line where something is wrong. Exit
 * status: 0 an object is on stdout, whatever its status; 2 wrong usage or input; 3 it could not be written.
 */
#include "agent.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX (4u << 20)		/* a plan has some KiB, 4096 mixes half a MiB */

enum { DONE, USAGE = 2, BROKEN };

static const char help[] =
	"Usage: stress-agent [--box FD] <plan.json >counted.json\n"
	"       stress-agent --mixes <plan-and-mixes.json\n"
	"       stress-agent --probe\n"
	"\n"
	"Patch code while other CPUs execute it, and see what they execute. The plan is the `plan` of a record of\n"
	"`stress run`, as `jq -c .plan` prints it; out comes what the record says was counted, with status and reason.\n"
	"\n"
	"  --box FD   count in the file behind this descriptor, which another process has made and may read\n"
	"  --mixes    take {\"plan\": ..., \"mixes\": [hex, ...]}; say how each content of the region shows itself\n"
	"  --probe    say what this CPU and kernel allow\n"
	"  --version  say what this was built from\n"
	"\n"
	"Exit status: 0 an object was printed, whatever its status; 2 wrong usage or input; 3 it could not be printed.\n";

/* The structs that are too large for a stack. Zeroed by the loader. */
static struct job job;
static struct xmc_result own_result;
static char input[INPUT_MAX + 1];
static struct xmc_mix mixes[XMC_MIXES_MAX];
static struct xmc_signature signatures[XMC_MIXES_MAX];

static int complain(const char *text)
{
	fprintf(stderr, "stress-agent: %s\n", text);
	return USAGE;
}

/* Whether everything printed is out. */
static int finish(void)
{
	fputc('\n', stdout);
	if (!fflush(stdout) && !ferror(stdout))
		return DONE;
	fprintf(stderr, "stress-agent: cannot write the output: %s; give it a place with room\n", strerror(errno));
	return BROKEN;
}

static const struct json *read_input(struct reader *r)
{
	size_t n = fread(input, 1, sizeof(input), stdin);

	snprintf(r->path, sizeof(r->path), "stdin");
	if (n > INPUT_MAX)
		refuse(r, "is longer than %u bytes; give one plan", INPUT_MAX);
	return r->error[0] ? NULL : json_parse(r, input, n);
}

/*
 * The black box behind a descriptor. It must be one, of this very layout: under some prefixes the descriptor does not
 * travel with us, and its number may be another file's. Then we count in memory of our own.
 */
static struct xmc_result *open_box(int fd)
{
	struct stat st;
	void *box;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != sizeof(struct xmc_result))
		return &own_result;
	box = mmap(NULL, sizeof(struct xmc_result), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return box == MAP_FAILED ? &own_result : box;
}

static int run(int box)
{
	struct reader r = { 0 };
	struct writer w = { .to = stdout };
	const struct json *plan = read_input(&r);
	struct xmc_result *result = open_box(box);
	int rc;

	if (plan) {
		snprintf(r.path, sizeof(r.path), "plan");
		plan_read(&r, plan, &job);
	}
	if (r.error[0])
		return complain(r.error);
	rc = job.published ? xmc_publish(&job.plan, &job.publish, result) : xmc_run(&job.plan, result);
	record_write(&w, &job, result, rc);
	rc = finish();
	/* Threads that did not end still run on memory that an orderly exit would take away. */
	_exit(rc);
}

static void read_mix(struct reader *r, const struct json *value, void *at)
{
	uint32_t n = read_hex(r, value, ((struct xmc_mix *)at)->bytes, XMC_IMAGE_BYTES_MAX);

	if (n != job.plan.region_len)
		refuse(r, "has %u bytes; give %u, as many as the images have", n, job.plan.region_len);
}

static void read_plan(struct reader *r, const struct json *value, void *at)
{
	plan_read(r, value, at);
}

static void read_mixes(struct reader *r, const struct json *value, void *at)
{
	*(uint32_t *)at = read_array(r, value, XMC_MIXES_MAX, sizeof(mixes[0]), read_mix, mixes);
}

static int run_mixes(void)
{
	static const struct field plan_field = FIELD_READ("plan", read_plan);
	static const struct field mixes_field = FIELD_READ("mixes", read_mixes);
	struct reader r = { 0 };
	struct writer w = { .to = stdout };
	const struct json *both = read_input(&r);
	uint32_t n = 0;
	int rc;

	if (both) {
		r.path[0] = '\0';
		read_member(&r, both, &plan_field, &job);
		read_member(&r, both, &mixes_field, &n);
	}
	if (r.error[0])
		return complain(r.error);
	rc = xmc_run_mixes(&job.plan, n, mixes, signatures);
	mixes_write(&w, signatures, n, rc);
	return finish();
}

static int probe(void)
{
	struct writer w = { .to = stdout };
	struct xmc_probe found;

	xmc_probe(&found);
	probe_write(&w, &found);
	return finish();
}

static int box_number(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	return *text && !*end && number >= 0 && number < 1 << 20 ? (int)number : -1;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	xmc_die_with_parent();		/* whoever reads the record has gone; then so do the spinning threads */
	if (argc == 1)
		return run(-1);
	if (argc == 3 && !strcmp(what, "--box") && box_number(argv[2]) >= 0)
		return run(box_number(argv[2]));
	if (argc == 2 && !strcmp(what, "--mixes"))
		return run_mixes();
	if (argc == 2 && !strcmp(what, "--probe"))
		return probe();
	if (argc == 2 && !strcmp(what, "--version")) {
		fputs("stress-agent " AGENT_VERSION, stdout);
		return finish();
	}
	if (argc == 2 && (!strcmp(what, "--help") || !strcmp(what, "-h"))) {
		fputs(help, stdout);
		return finish();
	}
	return complain("wrong usage; give nothing, --box FD, --mixes, --probe, --version or --help");
}
