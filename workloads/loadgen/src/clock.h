/* Time: one monotonic clock, and a wall clock derived from it.
 *
 * Every time that leaves this program is "CLOCK_REALTIME as it was when the
 * program began, plus what CLOCK_MONOTONIC has counted since". A step of the
 * wall clock in the middle of a trial therefore cannot stretch or shrink an
 * interval; it is noticed and reported instead.
 */
#ifndef COELOAD_CLOCK_H
#define COELOAD_CLOCK_H

#include <stdint.h>

#define NS_PER_US 1000LL
#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

/* Ties the wall clock to the monotonic one. Once, before anything else. */
void clock_anchor(void);

int64_t clock_mono(void);
int64_t clock_wall_of(int64_t mono);
int64_t clock_mono_of(int64_t wall);

/* What the wall clock has jumped by since the last call, in ns; 0 for none. */
int64_t clock_step(void);

/* A descriptor that becomes readable when somebody sets the wall clock, or -1
 * where the kernel cannot say. clock_rearm() makes it ready for the next one. */
int clock_step_fd(void);
void clock_rearm(int fd);

#endif
