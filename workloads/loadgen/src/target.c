#include "target.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void counts_add(struct counts *to, const struct counts *from)
{
    to->planned += from->planned;
    to->unsent += from->unsent;
    to->sent += from->sent;
    to->ok += from->ok;
    for (int i = 0; i < FAULT_KINDS; i++)
        to->errors[i] += from->errors[i];
    to->in_flight += from->in_flight;
    to->bytes += from->bytes;
    to->connects += from->connects;
}

uint64_t counts_errors(const struct counts *counts)
{
    uint64_t sum = 0;

    for (int i = 0; i < FAULT_KINDS; i++)
        sum += counts->errors[i];
    return sum;
}

/* Methods whose requests say how long they are even without a body (RFC 9110, 8.6): strict servers answer 411 else. */
static bool wants_length(const char *method)
{
    return !strcmp(method, "POST") || !strcmp(method, "PUT") || !strcmp(method, "PATCH");
}

struct target *target_new(const struct load_spec *spec, const char *host, uint16_t port,
                          const struct address *address)
{
    struct target *target = must_calloc(1, sizeof *target);
    struct buf *request = &target->request;

    target->address = *address;
    target->threads = spec->threads;
    address_text(address, true, target->text);
    target->tallies = must_calloc((size_t)spec->threads, sizeof *target->tallies);
    for (int i = 0; i < spec->threads; i++)
        target->tallies[i].latency = histogram_new();
    buf_printf(request, "%s %s HTTP/1.1\r\nHost: ", spec->method, spec->path);
    if (spec->host)
        buf_text(request, spec->host);
    else
        buf_printf(request, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    buf_text(request, "\r\n");
    buf_text(request, spec->headers);
    if (spec->close_each)
        buf_text(request, "Connection: close\r\n");
    if (spec->body || wants_length(spec->method))
        buf_printf(request, "Content-Length: %zu\r\n", spec->body_len);
    buf_text(request, "\r\n");
    buf_add(request, spec->body, spec->body_len);
    return target;
}

void target_free(struct target *target)
{
    for (int i = 0; i < target->threads; i++)
        free(target->tallies[i].latency);
    free(target->tallies);
    buf_free(&target->request);
    free(target);
}

struct target_set *target_set_new(struct target **targets, size_t count, int holders)
{
    struct target_set *set = must_alloc(sizeof *set + count * sizeof *targets);

    atomic_init(&set->holders, holders);
    set->count = count;
    memcpy(set->targets, targets, count * sizeof *targets);
    return set;
}

void target_set_release(struct target_set *set)
{
    if (atomic_fetch_sub_explicit(&set->holders, 1, memory_order_acq_rel) == 1)
        free(set);
}
