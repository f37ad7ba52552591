#include "pacer.h"

#include <stdlib.h>

#include "buf.h"
#include "clock.h"

#define LATE NS_PER_MS          /* later than this, a request is a matter of catching up */
#define CATCHUP_GRACE NS_PER_MS /* what a catch-up may do at once, in time */

void pacer_init(struct pacer *p, const struct load_spec *spec, int part)
{
    *p = (struct pacer){.spec = spec, .next_due = INT64_MAX};
    if (!spec->open)
        return;
    p->cap = (size_t)((spec->backlog + spec->threads - 1) / spec->threads);
    p->backlog = must_calloc(p->cap, sizeof *p->backlog);
    schedule_begin(&p->schedule, spec->stages, spec->stage_count, spec->poisson, spec->seed, part,
                   spec->threads);
}

void pacer_free(struct pacer *p)
{
    free(p->backlog);
}

static void look_ahead(struct pacer *p)
{
    int64_t next = schedule_next(&p->schedule);

    p->next_due = next < 0 ? INT64_MAX : p->start + next;
}

void pacer_start(struct pacer *p, int64_t start)
{
    p->start = start;
    look_ahead(p);
}

void pacer_end(struct pacer *p)
{
    p->next_due = INT64_MAX;
}

bool pacer_plan(struct pacer *p, int64_t now, int64_t *planned, bool *kept)
{
    if (p->next_due > now)
        return false;
    *planned = p->next_due;
    *kept = p->len < p->cap;
    if (*kept) {
        size_t at = p->head + p->len++;

        p->backlog[at < p->cap ? at : at - p->cap] = *planned;
    }
    look_ahead(p);
    return true;
}

int64_t pacer_oldest(const struct pacer *p)
{
    return p->backlog[p->head];
}

void pacer_pop(struct pacer *p)
{
    if (++p->head == p->cap)
        p->head = 0;
    p->len--;
}

/* A request that is late is part of a catch-up, and that is held to a multiple of the
 * planned rate: a server that stood still must not be met by a flood of our making. */
int64_t pacer_held_until(struct pacer *p, int64_t planned, int64_t now)
{
    double interval;

    if (now - planned <= LATE)
        return 0;
    if (p->catchup_at - now > CATCHUP_GRACE)
        return p->catchup_at - CATCHUP_GRACE;
    interval = 1e9 * p->spec->threads / (schedule_rate(&p->schedule) * p->spec->catchup);
    p->catchup_at = (p->catchup_at > now ? p->catchup_at : now) + (int64_t)interval;
    return 0;
}
