#include "schedule.h"

#include <math.h>

/* xoshiro256**, seeded through splitmix64: small, fast, and the same everywhere. */
void rng_seed(struct rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        rng->state[i] = z ^ z >> 31;
    }
}

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

double rng_unit(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

static void advance(struct schedule *s)
{
    if (s->poisson)
        s->n += -log1p(-rng_unit(&s->rng)) * s->step;
    else
        s->n += s->step;
}

void schedule_begin(struct schedule *s, const struct stage *stages, size_t count, bool poisson,
                    uint64_t seed, int part, int parts)
{
    *s = (struct schedule){.stages = stages, .count = count, .poisson = poisson, .step = parts};
    rng_seed(&s->rng, seed * 1000003 + (uint64_t)part);
    if (poisson)
        advance(s);
    else
        s->n = part;
}

static double stage_total(const struct stage *stage)
{
    return (stage->rate + stage->rate_to) / 2 * stage->seconds;
}

int64_t schedule_next(struct schedule *s)
{
    /* A sum of products such as 0.1 * 30 may miss a whole number by a hair. */
    const double hair = 1e-6;
    const struct stage *stage;
    double into;
    double seconds;

    while (s->current < s->count &&
           s->n >= s->stage_first + stage_total(&s->stages[s->current]) - hair) {
        s->stage_first += stage_total(&s->stages[s->current]);
        s->stage_begin += s->stages[s->current].seconds;
        s->current++;
    }
    if (s->current == s->count)
        return -1;
    stage = &s->stages[s->current];
    into = s->n > s->stage_first ? s->n - s->stage_first : 0;
    if (stage->rate == stage->rate_to || into == 0) {
        seconds = into / (stage->rate > 0 ? stage->rate : 1);
    } else {
        /* The root of rate t + slope t^2 / 2 = into, in the form that does not cancel. */
        double slope = (stage->rate_to - stage->rate) / stage->seconds;
        double under = stage->rate * stage->rate + 2 * slope * into;

        seconds = 2 * into / (stage->rate + sqrt(under > 0 ? under : 0));
    }
    advance(s);
    return llround((s->stage_begin + seconds) * 1e9);
}

double schedule_rate(const struct schedule *s)
{
    const struct stage *stage = &s->stages[s->current < s->count ? s->current : s->count - 1];
    double total = stage_total(stage);
    double part = isfinite(total) && total > 0 ? (s->n - s->stage_first) / total : 0;

    part = part < 0 ? 0 : part > 1 ? 1 : part;
    /* The rate grows with the square root of the arrivals of a ramp. */
    return sqrt(stage->rate * stage->rate +
                (stage->rate_to * stage->rate_to - stage->rate * stage->rate) * part);
}
