/* A load from its beginning to its end: names into addresses, threads, their frames
 * into seconds, and the sum of it all. Lives in the agent's thread. */
#ifndef COELOAD_LOAD_H
#define COELOAD_LOAD_H

#include "throttle.h"
#include "worker.h"

struct load;

/* All threads' frames of one second. Valid during the call that tells of it. */
struct second {
    uint32_t seq;
    enum frame_kind kind;
    int64_t from; /* monotonic */
    int64_t to;
    struct counts counts; /* as things happened, whichever phase planned them */
    uint64_t in_flight;   /* at its end */
    uint64_t backlog;
    double cpu;         /* cores: of the load's threads, */
    double cpu_busiest; /* of the busiest of them without its polling in vain: near 1, */
    double cpu_process; /* the generator is the limit; and of the whole process */
    struct throttled throttled;
    struct part other; /* of all that, what was planned in the other phase than this second's */
    struct histogram latency;
    struct histogram raw;
    struct histogram lag;
    struct buf mishaps; /* struct mishap, thread by thread */
    uint64_t untold;
};

/* An address of a name that takes no connection, while others of that name do. */
struct idle_address {
    struct address address;
    enum fault fault;
};

struct load_total {
    int64_t start; /* monotonic */
    int64_t measured;
    int64_t end;
    uint32_t seconds;
    struct part *parts; /* PHASES of them */
    uint64_t ok_in_time; /* good answers that came between `measured` and `end` */
    double offered_rps;  /* planned (closed: sent) in the measured phase */
    double achieved_rps; /* good answers a second, of those that came in time */
    double cpu;          /* cores in the measured phase, as above */
    double cpu_busiest;
    double cpu_process;
    struct throttled throttled; /* in the measured phase */
    size_t target_count;
    struct target **targets; /* every one there ever was */
    size_t uncovered;        /* targets of the last set without a connection */
    const struct idle_address *idle;
    size_t idle_count;
    bool stopped;
};

struct load_listener {
    void (*started)(void *arg, const struct load *load, int64_t start, int64_t late);
    void (*second)(void *arg, const struct load *load, const struct second *second);
    /* The last call. Without a total the load never began, and `why` says why. */
    void (*over)(void *arg, const struct load_total *total, const char *why);
    void *arg;
};

/* Takes the spec over, also when it fails. */
struct load *load_new(struct loop *loop, struct resolver *resolver, struct load_spec *spec,
                      const struct load_listener *listener, struct complaint *c);
void load_go(struct load *load);
bool load_retarget(struct load *load, const char *targets, struct complaint *c);
void load_stop(struct load *load);
void load_free(struct load *load);
const struct load_spec *load_spec_of(const struct load *load);

#endif
