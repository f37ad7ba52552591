#include "report.h"

#include <stdlib.h>

#include "clock.h"

static const char *const kind_names[] = {
    [FRAME_WARMUP] = "warmup", [FRAME_MEASURED] = "measured", [FRAME_DRAIN] = "drain"};

static const struct {
    const char *name;
    double percentile;
} told[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}};

#define TOLD (sizeof told / sizeof *told)

static void put_errors(struct json *j, const struct counts *counts)
{
    json_open(j, "errors", '{');
    for (int i = 0; i < FAULT_KINDS; i++)
        if (counts->errors[i])
            json_int(j, fault_name((enum fault)i), (int64_t)counts->errors[i]);
    json_close(j, '}');
}

static void put_counts(struct json *j, const struct counts *counts)
{
    json_int(j, "planned", (int64_t)counts->planned);
    json_int(j, "sent", (int64_t)counts->sent);
    json_int(j, "ok", (int64_t)counts->ok);
    put_errors(j, counts);
    json_int(j, "unsent", (int64_t)counts->unsent);
    json_int(j, "bytes", (int64_t)counts->bytes);
    json_int(j, "connects", (int64_t)counts->connects);
}

static void put_histogram(struct json *j, const char *key, const struct histogram *h)
{
    struct buf encoded = {0};

    histogram_encode(h, &encoded);
    json_base64(j, key, &encoded);
    buf_free(&encoded);
}

void report_percentiles(struct json *j, const char *key, const struct histogram *h)
{
    json_open(j, key, '{');
    for (size_t i = 0; i < TOLD; i++) {
        double ms = (double)histogram_percentile(h, told[i].percentile) / 1e6;

        if (h->total)
            json_real(j, told[i].name, ms, 6);
        else
            json_null(j, told[i].name);
    }
    if (h->total)
        json_real(j, "mean", histogram_mean(h) / 1e6, 6);
    else
        json_null(j, "mean");
    json_close(j, '}');
}

static bool any(const struct counts *c)
{
    return c->planned || c->unsent || c->sent || c->ok || c->connects || counts_errors(c);
}

static void put_part(struct json *j, const struct part *part)
{
    put_counts(j, &part->counts);
    json_int(j, "in_flight", (int64_t)part->counts.in_flight);
    put_histogram(j, "latency", &part->latency);
    put_histogram(j, "raw", &part->raw);
    put_histogram(j, "lag", &part->lag);
}

/* Nulls where no cgroup tells: unknown is not none. */
static void put_throttled(struct json *j, const struct throttled *t)
{
    if (t->known) {
        json_real(j, "throttled_ms", (double)t->ns / 1e6, 3);
        json_int(j, "throttled_periods", (int64_t)t->cut);
        json_int(j, "periods", (int64_t)t->periods);
    } else {
        json_null(j, "throttled_ms");
        json_null(j, "throttled_periods");
        json_null(j, "periods");
    }
}

static void put_mishaps(struct json *j, const struct second *second)
{
    const struct mishap *list = (const struct mishap *)(const void *)second->mishaps.data;

    json_open(j, "mishaps", '[');
    for (size_t i = 0; i < second->mishaps.len / sizeof *list; i++) {
        json_open(j, NULL, '[');
        json_int(j, NULL, clock_wall_of(list[i].planned));
        json_int(j, NULL, clock_wall_of(list[i].begun));
        json_int(j, NULL, clock_wall_of(list[i].ended));
        json_str(j, NULL, list[i].fault ? fault_name(list[i].fault) : "slow");
        json_str(j, NULL, list[i].target->text);
        json_close(j, ']');
    }
    json_close(j, ']');
    json_int(j, "untold", (int64_t)second->untold);
}

void report_second(struct json *j, const struct load_spec *spec, const struct second *second)
{
    json_int(j, "seq", second->seq);
    json_str(j, "phase", kind_names[second->kind]);
    json_int(j, "from", clock_wall_of(second->from));
    json_int(j, "at", clock_wall_of(second->to));
    put_counts(j, &second->counts);
    json_int(j, "in_flight", (int64_t)second->in_flight);
    json_int(j, "backlog", (int64_t)second->backlog);
    json_real(j, "cpu", second->cpu, 4);
    json_real(j, "cpu_busiest", second->cpu_busiest, 4);
    json_real(j, "cpu_process", second->cpu_process, 4);
    put_throttled(j, &second->throttled);
    report_percentiles(j, "latency_ms", &second->latency);
    put_histogram(j, "latency", &second->latency);
    put_histogram(j, "raw", &second->raw);
    put_histogram(j, "lag", &second->lag);
    if (any(&second->other.counts)) {
        json_open(j, "other", '{');
        put_part(j, &second->other);
        json_close(j, '}');
    }
    if (spec->mishaps)
        put_mishaps(j, second);
}

static void put_targets(struct json *j, const struct load_total *total)
{
    struct histogram *latency = histogram_new();

    json_open(j, "targets", '{');
    for (size_t i = 0; i < total->target_count; i++) {
        const struct target *target = total->targets[i];
        struct counts counts = {0};

        histogram_clear(latency);
        for (int t = 0; t < target->threads; t++) {
            counts_add(&counts, &target->tallies[t].counts);
            histogram_add(latency, target->tallies[t].latency);
        }
        json_open(j, target->text, '{');
        json_int(j, "sent", (int64_t)counts.sent);
        json_int(j, "ok", (int64_t)counts.ok);
        put_errors(j, &counts);
        json_int(j, "in_flight", (int64_t)counts.in_flight);
        json_int(j, "bytes", (int64_t)counts.bytes);
        report_percentiles(j, "latency_ms", latency);
        put_histogram(j, "latency", latency);
        json_close(j, '}');
    }
    json_close(j, '}');
    free(latency);
}

/* How many values are lower bounds, because they are beyond what a histogram tells apart. */
static void put_beyond(struct json *j, const struct part *part)
{
    json_open(j, "beyond_range", '{');
    json_real(j, "highest_ms", (double)HISTOGRAM_HIGHEST / 1e6, 0);
    json_int(j, "latency", (int64_t)histogram_beyond(&part->latency));
    json_int(j, "raw", (int64_t)histogram_beyond(&part->raw));
    json_int(j, "lag", (int64_t)histogram_beyond(&part->lag));
    json_close(j, '}');
}

void report_total(struct json *j, const struct load_spec *spec, const struct load_total *total)
{
    const struct part *measured = &total->parts[MEASURED];

    json_str(j, "mode", spec->open ? "open" : "closed");
    json_bool(j, "stopped", total->stopped);
    json_int(j, "start", clock_wall_of(total->start));
    json_int(j, "measured_from", clock_wall_of(total->measured));
    json_int(j, "measured_to", clock_wall_of(total->end));
    json_int(j, "seconds", total->seconds);
    json_int(j, "connections", spec->connections);
    json_int(j, "threads", spec->threads);
    json_int(j, "uncovered", (int64_t)total->uncovered);
    json_real(j, "offered_rps", total->offered_rps, 3);
    json_real(j, "achieved_rps", total->achieved_rps, 3);
    report_percentiles(j, "latency_ms", &measured->latency);
    report_percentiles(j, "raw_latency_ms", &measured->raw);
    report_percentiles(j, "send_lag_ms", &measured->lag);
    put_beyond(j, measured);
    json_open(j, "not_serving", '{');
    for (size_t i = 0; i < total->idle_count; i++) {
        char text[ADDRESS_TEXT];

        address_text(&total->idle[i].address, true, text);
        json_str(j, text, fault_name(total->idle[i].fault));
    }
    json_close(j, '}');
    json_real(j, "cpu", total->cpu, 4);
    json_real(j, "cpu_busiest", total->cpu_busiest, 4);
    json_real(j, "cpu_process", total->cpu_process, 4);
    put_throttled(j, &total->throttled);
    put_part(j, measured);
    json_open(j, "warmup", '{');
    put_part(j, &total->parts[WARMUP]);
    json_close(j, '}');
    put_targets(j, total);
}

static void text_row(FILE *out, const char *name, const struct histogram *h)
{
    fprintf(out, "  %-24s", name);
    for (size_t i = 0; i < TOLD; i++) {
        int64_t value = histogram_percentile(h, told[i].percentile);

        if (!h->total)
            fprintf(out, "%10s", "-");
        else if (value >= HISTOGRAM_HIGHEST)
            fprintf(out, " \u2265%.3f", (double)value / 1e6); /* as wide as the others: 3600000.000 */
        else
            fprintf(out, "%10.3f", (double)value / 1e6);
    }
    fputc('\n', out);
}

void report_text(FILE *out, const struct load_spec *spec, const struct load_total *total)
{
    const struct part *part = &total->parts[MEASURED];
    double length = (double)(total->end - total->measured) / 1e9;
    uint64_t errors = counts_errors(&part->counts);

    fprintf(out, "%s loop, %d connections, %d thread%s, %.1f s%s\n", spec->open ? "open" : "closed",
            spec->connections, spec->threads, spec->threads == 1 ? "" : "s",
            length > 0 ? length : 0, total->stopped ? " (stopped)" : "");
    if (spec->open)
        fprintf(out, "  offered  %14.1f requests/s\n", total->offered_rps);
    fprintf(out, "  achieved %14.1f requests/s\n", total->achieved_rps);
    fprintf(out, "  good %llu, errors %llu, unsent %llu, unanswered %llu\n",
            (unsigned long long)part->counts.ok, (unsigned long long)errors,
            (unsigned long long)part->counts.unsent, (unsigned long long)part->counts.in_flight);
    for (int i = 0; i < FAULT_KINDS; i++)
        if (part->counts.errors[i])
            fprintf(out, "    %-20s %llu\n", fault_name((enum fault)i),
                    (unsigned long long)part->counts.errors[i]);
    fprintf(out, "  %-24s", "ms");
    for (size_t i = 0; i < TOLD; i++)
        fprintf(out, "%10s", told[i].name);
    fputc('\n', out);
    if (spec->open) {
        text_row(out, "latency (from the plan)", &part->latency);
        text_row(out, "raw (from the send)", &part->raw);
        text_row(out, "send lag", &part->lag);
    } else {
        text_row(out, "raw (closed loop)", &part->raw);
    }
    fprintf(out, "  own CPU %.2f cores, the busiest thread at work %.0f %%\n", total->cpu_process,
            total->cpu_busiest * 100);
    /* Whether that was too much is not judged here: coebench/load/saturation.py draws the lines. */
    if (total->throttled.known && total->throttled.ns)
        fprintf(out,
                "  A CPU quota stopped the generator for %.0f ms (in %llu of %llu periods).\n",
                (double)total->throttled.ns / 1e6, (unsigned long long)total->throttled.cut,
                (unsigned long long)total->throttled.periods);
    if (part->counts.unsent)
        fputs("  Some requests were due but never sent: latencies are a lower bound.\n", out);
    if (histogram_beyond(&part->latency) || histogram_beyond(&part->raw))
        fprintf(out, "  %llu latencies are beyond %.0f s: \u2265 marks lower bounds.\n",
                (unsigned long long)(histogram_beyond(&part->latency) ? histogram_beyond(&part->latency)
                                                                      : histogram_beyond(&part->raw)),
                (double)HISTOGRAM_HIGHEST / 1e9);
    for (size_t i = 0; i < total->idle_count; i++) {
        char text[ADDRESS_TEXT];

        address_text(&total->idle[i].address, true, text);
        fprintf(out, "  Nothing was sent to %s, which takes no connections (%s); other addresses of its name do.\n",
                text, fault_name(total->idle[i].fault));
    }
    if (total->uncovered)
        fprintf(out, "  %zu targets had no connection: ask for more connections.\n",
                total->uncovered);
}
