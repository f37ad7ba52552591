/* A target of a load: an address, the request that is sent to it, and what each
 * thread has counted there. */
#ifndef COELOAD_TARGET_H
#define COELOAD_TARGET_H

#include "address.h"
#include "histogram.h"
#include "load_spec.h"

struct counts {
    uint64_t planned;
    uint64_t unsent; /* due, but the backlog was full, or the end had come */
    uint64_t sent;
    uint64_t ok;
    uint64_t errors[FAULT_KINDS];
    uint64_t in_flight; /* sent, and neither good nor failed by the end */
    uint64_t bytes;     /* received */
    uint64_t connects;
};

void counts_add(struct counts *to, const struct counts *from);
uint64_t counts_errors(const struct counts *counts);

struct slot;

/* Connections of one thread, in the order in which they came. */
struct list {
    struct slot *head;
    struct slot *tail;
};

/* What one thread saw of one target in the measured phase, and its connections there that have nothing to do. */
struct target_tally {
    struct counts counts;
    struct histogram *latency;
    struct list idle;
    int quota; /* connections still to be given to it while they are spread; else 0 */
};

struct target {
    struct address address;
    char text[ADDRESS_TEXT];
    struct buf request;
    struct target_tally *tallies; /* one a thread */
    int threads;
};

struct target *target_new(const struct load_spec *spec, const char *host, uint16_t port,
                          const struct address *address);
void target_free(struct target *target);

/* The targets at one moment. Each thread takes it once and lets go of it. */
struct target_set {
    _Atomic int holders;
    size_t count;
    struct target *targets[];
};

struct target_set *target_set_new(struct target **targets, size_t count, int holders);
void target_set_release(struct target_set *set);

#endif
