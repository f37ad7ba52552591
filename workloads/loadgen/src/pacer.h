/* The open loop's plan: what is due, what waits for a connection, and how fast those
 * that are late may go out. */
#ifndef COELOAD_PACER_H
#define COELOAD_PACER_H

#include "load_spec.h"
#include "schedule.h"

struct pacer {
    const struct load_spec *spec;
    struct schedule schedule;
    int64_t start;
    int64_t next_due; /* INT64_MAX when there is nothing more to come */
    int64_t *backlog; /* ring of the planned times of requests that are due */
    size_t cap;
    size_t head;
    size_t len;
    int64_t catchup_at; /* theoretical arrival time of a virtual scheduling algorithm */
};

/* Part number `part` of the load's arrivals; nothing is due before pacer_start(). */
void pacer_init(struct pacer *p, const struct load_spec *spec, int part);
void pacer_start(struct pacer *p, int64_t start);
void pacer_end(struct pacer *p);
void pacer_free(struct pacer *p);

/* Takes the next arrival that is due by now. *kept tells whether the backlog had room. */
bool pacer_plan(struct pacer *p, int64_t now, int64_t *planned, bool *kept);

/* The oldest in the backlog, which must not be empty, and its removal. */
int64_t pacer_oldest(const struct pacer *p);
void pacer_pop(struct pacer *p);

/* 0 if a request may go out now, and it must then; else when to ask again. */
int64_t pacer_held_until(struct pacer *p, int64_t planned, int64_t now);

#endif
