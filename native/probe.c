/* probe.c - what this CPU and this kernel allow, found out by trying. */
#include "core.h"
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEASURE_NS 5000000ull

/* Whether the region can be had through `via`; -ENOMEM and the like come from the reservation itself. */
static bool can_map(uint32_t via, uint32_t huge_pages, uint64_t *features)
{
	struct xmc_plan plan = { .via = via, .huge_pages = huge_pages, .n_images = 2, .region_len = 1 };
	struct region region = { 0 };
	int rc = region_map(&region, &plan);

	if (region.reservation)
		*features |= XMC_FEATURE_RESERVE;
	region_unmap(&region);
	return rc == 0;
}

/* A page that was writable, made executable again: what W^X does, and what PR_SET_MDWE refuses. */
static bool can_protect_x(void)
{
	struct xmc_plan plan = { .via = XMC_VIA_ALIAS, .n_images = 2, .region_len = 1 };
	struct region region = { 0 };
	bool can = !region_map(&region, &plan) && !region_protect(&region, XMC_PROTECT_RW) &&
		   !region_protect(&region, XMC_PROTECT_RX);

	region_unmap(&region);
	return can;
}

/* Make a system call from a region: what says yes when it is asked need not do it (executor.c). */
static bool can_contain_syscalls(void)
{
	static const uint32_t vias[] = { XMC_VIA_SAME, XMC_VIA_ALIAS };
	struct xmc_plan plan = { .abi = XMC_ABI, .n_images = 2, .region_len = XMC_GATE_BYTES, .patch_len = 1 };
	struct xmc_signature seen = { 0 };
	struct xmc_mix call = { 0 };
	int rc = -EINVAL;

	plan.n_executors = plan.n_provocations = 1;
	plan.executor_cpu[0] = current_cpu();
	plan.limit_patches = 1;
	memcpy(call.bytes, xmc_arch_gate, XMC_GATE_BYTES);
	for (size_t i = 0; i < sizeof(vias) / sizeof(vias[0]) && rc; i++) {
		plan.via = vias[i];
		rc = xmc_run_mixes(&plan, 1, &call, &seen);
	}
	return !rc && seen.signal == SIGSYS;
}

const char *xmc_register_names(void)
{
	return xmc_arch_register_names;
}

int xmc_probe(struct xmc_probe *probe)
{
	uint64_t ns = now_ns(), ticks = xmc_arch_ticks(), until = ns + MEASURE_NS, now;
	long commands = syscall(SYS_membarrier, 0, 0, 0);

	memset(probe, 0, sizeof(*probe));
	xmc_arch_probe(probe);
	probe->membarrier = commands > 0 ? (uint64_t)commands : 0;
	if (can_map(XMC_VIA_SAME, 0, &probe->features))
		probe->features |= XMC_FEATURE_RWX;
	if (can_map(XMC_VIA_SAME, 1, &probe->features))
		probe->features |= XMC_FEATURE_HUGE_PAGES;
	if (can_map(XMC_VIA_ALIAS, 0, &probe->features))
		probe->features |= XMC_FEATURE_ALIAS;
	if (can_protect_x())
		probe->features |= XMC_FEATURE_PROTECT_X;
	probe->features |= via_probe();
	if (can_contain_syscalls())
		probe->features |= XMC_FEATURE_SYSCALL_DISPATCH;
	do
		now = now_ns();
	while (now < until);
	probe->tsc_hz = (uint64_t)((double)(xmc_arch_ticks() - ticks) * 1e9 / (double)(now - ns));
	return 0;
}
