/* What a load is to be, read from a request of the control protocol or from the
 * command line, which is turned into the same key=value pairs. */
#ifndef COELOAD_LOAD_SPEC_H
#define COELOAD_LOAD_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "request.h"
#include "schedule.h"

struct target_name {
    char *host;
    uint16_t port;
};

struct target_names {
    struct target_name *list;
    size_t count;
};

struct load_spec {
    struct target_names names;
    bool open;
    bool poisson;
    bool spin;
    bool close_each;
    bool mishaps; /* tell of each request that failed, or was slow: */
    int64_t slow; /* later than this after its planned time; 0 tells of failed ones only */
    struct stage *stages; /* of an open load; the first is the warm-up if there is one */
    size_t stage_count;
    int64_t warmup;
    int64_t duration; /* measured, after the warm-up; 0 goes on until stopped */
    int64_t start;    /* wall clock; 0 begins as soon as the connections should be open */
    int64_t timeout;
    int64_t drain;   /* at the end, wait so long for what is outstanding */
    int64_t resolve; /* look names up again so often; 0 never does */
    int connections;
    int threads;
    int64_t backlog; /* requests that may be due and unsent at once */
    double catchup;  /* late requests go out at this multiple of the planned rate at most */
    uint64_t seed;
    int expect_low; /* statuses that count as good */
    int expect_high;
    char *expect_version; /* NULL if any will do */
    char *expect_body;
    char *method;
    char *path;
    char *host;    /* instead of each target's own name */
    char *headers; /* whole lines, with their ends */
    char *body;
    size_t body_len;
};

bool load_spec_read(struct load_spec *spec, struct request *request, struct complaint *c);
void load_spec_free(struct load_spec *spec);

/* "a:1,b:2"; at least one. */
bool target_names_read(struct target_names *names, const char *text, struct complaint *c);
void target_names_free(struct target_names *names);

/* The highest rate that the load will ask for, in requests a second. */
double load_spec_peak(const struct load_spec *spec);

#endif
