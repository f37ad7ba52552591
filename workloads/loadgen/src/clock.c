#include "clock.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* Smaller differences are two clock readings that were not quite at once. */
#define STEP_THRESHOLD (500 * NS_PER_US)

static int64_t wall_minus_mono;
static int64_t last_offset;

static int64_t read_clock(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t clock_mono(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* The offset between the clocks, from the tightest of a few bracketed readings:
 * being descheduled between two readings would otherwise look like a step. */
static int64_t offset_now(void)
{
    int64_t best = 0;
    int64_t tightest = INT64_MAX;

    for (int i = 0; i < 16; i++) {
        int64_t before = clock_mono();
        int64_t wall = read_clock(CLOCK_REALTIME);
        int64_t after = clock_mono();

        if (after - before < tightest) {
            tightest = after - before;
            best = wall - (before + (after - before) / 2);
        }
    }
    return best;
}

void clock_anchor(void)
{
    wall_minus_mono = last_offset = offset_now();
}

int64_t clock_wall_of(int64_t mono)
{
    return mono + wall_minus_mono;
}

int64_t clock_mono_of(int64_t wall)
{
    return wall - wall_minus_mono;
}

int64_t clock_step(void)
{
    int64_t offset = offset_now();
    int64_t step = offset - last_offset;

    if (step > -STEP_THRESHOLD && step < STEP_THRESHOLD)
        return 0;
    last_offset = offset;
    return step;
}

int clock_step_fd(void)
{
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd >= 0)
        clock_rearm(fd);
    return fd;
}

void clock_rearm(int fd)
{
    /* Never meant to fire: the kernel cancels it, and tells us, when the clock
     * is set. The read fetches the ECANCELED that says so. */
    struct itimerspec never = {.it_value = {.tv_sec = INT32_MAX}};
    uint64_t ticks;

    if (read(fd, &ticks, sizeof ticks) < 0) {
        /* ECANCELED or EAGAIN: both mean that there is nothing else to fetch */
    }
    timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}
