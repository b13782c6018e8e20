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

/* Ask on a range that no thread executes, and switch it off at once. */
static bool can_contain_syscalls(void)
{
	struct region nowhere = { .reservation = (uint8_t *)0x1000, .reserved = 0x1000 };
	bool can = fault_contain_syscalls(&nowhere);

	fault_release_syscalls();
	return can;
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
