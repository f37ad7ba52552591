/* What a thread of a load counts in a second, and where the seconds begin and end. */
#ifndef COELOAD_FRAME_H
#define COELOAD_FRAME_H

#include "histogram.h"
#include "target.h"

enum phase { WARMUP, MEASURED, PHASES };

/* Counts and times, by the phase in which a request was planned. */
struct part {
    struct counts counts;
    struct histogram latency; /* from the planned send time */
    struct histogram raw;     /* from the actual one */
    struct histogram lag;     /* between the two */
};

/* A request that failed or, with `fault` FAULT_NONE, whose good answer was slow. */
struct mishap {
    int64_t planned; /* all monotonic */
    int64_t begun;
    int64_t ended;
    const struct target *target;
    enum fault fault;
};

enum frame_kind { FRAME_WARMUP, FRAME_MEASURED, FRAME_DRAIN };

struct frame {
    uint32_t seq;
    enum frame_kind kind;
    int64_t from; /* monotonic */
    int64_t to;
    int64_t cpu;  /* of the thread since it began, ns */
    int64_t spun; /* of that, spent polling in vain */
    uint64_t in_flight;
    uint64_t backlog;
    struct part parts[PHASES];
    struct buf mishaps; /* struct mishap, one after the other, if the load tells of them */
    uint64_t untold;    /* those that there was no more room for */
};

void frame_clear(struct frame *frame);

/* Seconds never cross the end of the warm-up, nor the end of the load. */
struct timeline {
    int64_t start; /* all monotonic */
    int64_t measured;
    int64_t end; /* INT64_MAX when there is none */
};

/* Sets number, kind, beginning and end. */
void timeline_frame(const struct timeline *t, uint32_t seq, struct frame *frame);

#endif
