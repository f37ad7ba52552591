/* HDR histograms of times in nanoseconds, all of one geometry so that any two can
 * be added: 3 significant digits, up to an hour, nothing told apart under 64 ns (an
 * HdrHistogram with lowestDiscernibleValue 100). One microsecond would be the
 * usual unit, but is 2 % of a 60 us answer. A longer time is counted as an hour: a lower bound.
 */
#ifndef COELOAD_HISTOGRAM_H
#define COELOAD_HISTOGRAM_H

#include <stdint.h>

#include "buf.h"

#define HISTOGRAM_DIGITS 3
#define HISTOGRAM_LOWEST 100LL
#define HISTOGRAM_HIGHEST 3600000000000LL
#define HISTOGRAM_UNIT_BITS 6     /* log2 of HISTOGRAM_LOWEST, rounded down */
#define HISTOGRAM_HALF_BITS 10    /* half of the 2048 sub-buckets that 3 digits need */
#define HISTOGRAM_HALF (1 << HISTOGRAM_HALF_BITS)
#define HISTOGRAM_BUCKETS 26      /* 2048 * 64 ns doubled until an hour fits */
#define HISTOGRAM_SLOTS ((HISTOGRAM_BUCKETS + 1) * HISTOGRAM_HALF)

/* Zeroed is empty. Large, but only the pages that are counted in are ever real. */
struct histogram {
    uint64_t total;
    int64_t min;
    int64_t max;
    uint64_t counts[HISTOGRAM_SLOTS];
};

static inline uint32_t histogram_slot(int64_t value)
{
    const uint64_t mask = ((uint64_t)HISTOGRAM_HALF * 2 - 1) << HISTOGRAM_UNIT_BITS;
    uint32_t bucket = 64 - (HISTOGRAM_UNIT_BITS + HISTOGRAM_HALF_BITS + 1) -
                      (uint32_t)__builtin_clzll((uint64_t)value | mask);

    return (bucket << HISTOGRAM_HALF_BITS) + (uint32_t)(value >> (bucket + HISTOGRAM_UNIT_BITS));
}

static inline void histogram_record(struct histogram *h, int64_t value)
{
    if (value < 0)
        value = 0;
    else if (value > HISTOGRAM_HIGHEST)
        value = HISTOGRAM_HIGHEST;
    if (!h->total || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->total++;
    h->counts[histogram_slot(value)]++;
}

struct histogram *histogram_new(void);
void histogram_add(struct histogram *to, const struct histogram *from);
void histogram_clear(struct histogram *h);
/* How many values are at the end of the range or beyond it, and so lower bounds. */
uint64_t histogram_beyond(const struct histogram *h);

/* The value that `percentile` per cent of all values do not exceed: the upper end
 * of its bucket, but never beyond what was really seen. 0 when empty. */
int64_t histogram_percentile(const struct histogram *h, double percentile);
/* Between the least and the greatest value that were seen. */
double histogram_mean(const struct histogram *h);

/* Appends the HdrHistogram V2 compressed encoding. */
void histogram_encode(const struct histogram *h, struct buf *out);

#endif
