/* How long the kernel kept us from running because a CPU quota was used up. A
 * generator under a quota is stopped for most of each 100 ms and looks idle: its own
 * CPU time does not show it.
 */
#ifndef COELOAD_THROTTLE_H
#define COELOAD_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

struct throttled {
    bool known;       /* false: no cgroup here tells */
    uint64_t periods; /* of the quota in which we ran */
    uint64_t cut;     /* of those, the ones that ended early */
    int64_t ns;       /* kept from running, added up over the CPUs */
};

struct throttle;

/* Our own cgroup and those above it that can be seen from here: the quota may be
 * theirs. Never NULL. */
struct throttle *throttle_open(void);
void throttle_close(struct throttle *t);

/* Since the last call (or since it was opened), from the cgroup that cut the most. */
struct throttled throttle_second(struct throttle *t, bool measured);
/* The sum of those that were `measured`, again from the one that cut the most. */
struct throttled throttle_measured(const struct throttle *t);

#endif
