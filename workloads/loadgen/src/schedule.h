/* When requests are due: arrivals of an open load, thinned evenly over threads.
 *
 * A schedule is the integral of a rate that is linear in pieces: N(t), how many
 * requests are due by t. The k-th arrival of a regular schedule is where N(t) = k;
 * of a Poisson one, where N(t) reaches the k-th point of a Poisson process of unit
 * rate. So constant, stepped and ramped rates are one thing, regular or random.
 */
#ifndef COELOAD_SCHEDULE_H
#define COELOAD_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stage {
    double rate;    /* at its beginning, requests a second */
    double rate_to; /* at its end */
    double seconds; /* INFINITY in the last stage of a load without an end */
};

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
double rng_unit(struct rng *rng); /* in [0, 1) */

struct schedule {
    const struct stage *stages;
    size_t count;
    size_t current;
    double stage_begin; /* seconds and arrivals before the current stage */
    double stage_first;
    double n; /* where the next arrival is, in arrivals of the whole load */
    double step;
    bool poisson;
    struct rng rng;
    int64_t start;
};

/* Arrivals number part, part + parts, part + 2 parts, … of the whole. */
void schedule_begin(struct schedule *s, const struct stage *stages, size_t count, bool poisson,
                    uint64_t seed, int part, int parts);

/* When the next request is due, in ns after the start; -1 when there are no more. */
int64_t schedule_next(struct schedule *s);

/* The rate of the whole load where the schedule is now, requests a second. */
double schedule_rate(const struct schedule *s);

#endif
