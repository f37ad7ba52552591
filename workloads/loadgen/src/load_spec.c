#include "load_spec.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "address.h"
#include "buf.h"
#include "clock.h"
#include "text.h"

#define CONNECTIONS_MAX 1000000
#define THREADS_MAX 256
#define BACKLOG_MAX 50000000
#define DAY (24 * 3600 * NS_PER_S)

void target_names_free(struct target_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i].host);
    free(names->list);
    *names = (struct target_names){0};
}

bool target_names_read(struct target_names *names, const char *text, struct complaint *c)
{
    char *copy = must_strdup(text);
    char *save = NULL;
    bool ok = true;

    *names = (struct target_names){0};
    for (char *word = strtok_r(copy, ",", &save); word && ok; word = strtok_r(NULL, ",", &save)) {
        char *host;
        uint16_t port;

        ok = hostport_split(word, &host, &port, c);
        if (!ok)
            break;
        names->list = must_realloc(names->list, (names->count + 1) * sizeof *names->list);
        names->list[names->count++] = (struct target_name){must_strdup(host), port};
    }
    if (ok && !names->count)
        ok = complain(c, "targets= names no target");
    if (!ok)
        target_names_free(names);
    free(copy);
    return ok;
}

void load_spec_free(struct load_spec *spec)
{
    target_names_free(&spec->names);
    free(spec->stages);
    free(spec->expect_version);
    free(spec->expect_body);
    free(spec->method);
    free(spec->path);
    free(spec->host);
    free(spec->headers);
    free(spec->body);
    *spec = (struct load_spec){0};
}

double load_spec_peak(const struct load_spec *spec)
{
    double peak = 0;

    for (size_t i = 0; i < spec->stage_count; i++)
        peak = fmax(peak, fmax(spec->stages[i].rate, spec->stages[i].rate_to));
    return peak;
}

static void add_stage(struct load_spec *spec, double rate, double rate_to, double seconds)
{
    spec->stages = must_realloc(spec->stages, (spec->stage_count + 1) * sizeof *spec->stages);
    spec->stages[spec->stage_count++] = (struct stage){rate, rate_to, seconds};
}

/* rate:duration,rate:duration,… Their sum is the load's duration. */
static bool read_stages(struct load_spec *spec, const char *text, struct complaint *c)
{
    char *copy = must_strdup(text);
    char *save = NULL;
    bool ok = true;

    spec->duration = 0;
    for (char *word = strtok_r(copy, ",", &save); word && ok; word = strtok_r(NULL, ",", &save)) {
        char *colon = strchr(word, ':');
        double rate;
        int64_t duration;

        if (!colon) {
            ok = complain(c, "stages=%.40s: want rate:duration,rate:duration", word);
            break;
        }
        *colon = '\0';
        ok = text_rate("stages", word, &rate, c) &&
             text_duration("stages", colon + 1, NS_PER_MS, 365 * DAY, &duration, c);
        if (ok) {
            add_stage(spec, rate, rate, (double)duration / 1e9);
            spec->duration += duration;
        }
    }
    free(copy);
    return ok;
}

static bool read_schedule(struct load_spec *spec, struct request *r, struct complaint *c)
{
    const char *mode = request_get(r, "mode");
    const char *rate_text = request_get(r, "rate");
    const char *rate_to_text = request_get(r, "rate_to");
    const char *arrivals = request_get(r, "arrivals");
    const char *stages = request_get(r, "stages");
    const char *duration = request_get(r, "duration");
    const char *warmup = request_get(r, "warmup");
    double rate = 0;
    double rate_to;
    bool ramp = arrivals && !strcmp(arrivals, "ramp");

    if (!mode || !strcmp(mode, "open"))
        spec->open = true;
    else if (strcmp(mode, "closed"))
        return complain(c, "mode=%.40s: want open or closed", mode);
    if (warmup && !text_duration("warmup", warmup, 0, DAY, &spec->warmup, c))
        return false;
    if (duration && !text_duration("duration", duration, 0, 365 * DAY, &spec->duration, c))
        return false;
    if (duration && spec->duration && spec->duration < NS_PER_MS)
        return complain(c, "duration=%.40s: want a millisecond at least", duration);
    if (!spec->open) {
        if (rate_text || rate_to_text || arrivals || stages)
            return complain(c, "a closed load has no rate: leave out rate, arrivals and stages");
        return true;
    }
    if (arrivals && strcmp(arrivals, "constant") && strcmp(arrivals, "poisson") && !ramp)
        return complain(c, "arrivals=%.40s: want constant, poisson or ramp", arrivals);
    spec->poisson = arrivals && !strcmp(arrivals, "poisson");
    if (stages) {
        if (rate_text || rate_to_text || ramp || duration)
            return complain(c, "stages= says it all: leave out rate, rate_to, ramp and duration");
        if (!read_stages(spec, stages, c))
            return false;
        if (!spec->stage_count)
            return complain(c, "stages= names no stage");
    } else {
        if (!rate_text)
            return complain(c, "an open load needs rate= or stages=");
        if (!text_rate("rate", rate_text, &rate, c))
            return false;
        rate_to = rate;
        if (ramp != (rate_to_text != NULL))
            return complain(c, "arrivals=ramp and rate_to= go together");
        if (ramp && !spec->duration)
            return complain(c, "a ramp needs a duration");
        if (ramp && !text_rate("rate_to", rate_to_text, &rate_to, c))
            return false;
        add_stage(spec, rate, rate_to,
                  spec->duration ? (double)spec->duration / 1e9 : (double)INFINITY);
    }
    if (spec->warmup) { /* goes first, at the rate that the measured part begins with */
        double first = spec->stages[0].rate;

        add_stage(spec, 0, 0, 0);
        memmove(spec->stages + 1, spec->stages, (spec->stage_count - 1) * sizeof *spec->stages);
        spec->stages[0] = (struct stage){first, first, (double)spec->warmup / 1e9};
    }
    return true;
}

static bool token(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("!#$%&'*+-.^_`|~", *text))
            return false;
    return true;
}

static bool printable(const char *text, bool spaces)
{
    for (; *text; text++)
        if ((unsigned char)*text < (spaces ? ' ' : '!') || *text == 0x7f)
            return false;
    return true;
}

static bool read_headers(struct load_spec *spec, struct request *r, struct complaint *c)
{
    struct buf lines = {0};
    const char *text;
    size_t at = 0;

    while ((text = request_next(r, "header", &at))) {
        const char *colon = strchr(text, ':');
        char name[128] = "";
        const char *value;

        if (colon && (size_t)(colon - text) < sizeof name)
            memcpy(name, text, (size_t)(colon - text));
        value = colon ? colon + 1 + strspn(colon + 1, " ") : "";
        if (!token(name) || !printable(value, true)) {
            buf_free(&lines);
            return complain(c, "header=%.40s: want Name: value", text);
        }
        if (!strcasecmp(name, "Content-Length") || !strcasecmp(name, "Transfer-Encoding") ||
            !strcasecmp(name, "Connection")) {
            buf_free(&lines);
            return complain(c, "header=%.40s: coeload sets this one itself", name);
        }
        if (!strcasecmp(name, "Host")) {
            free(spec->host);
            spec->host = must_strdup(value);
            continue;
        }
        buf_printf(&lines, "%s: %s\r\n", name, value);
    }
    buf_add(&lines, "", 1);
    spec->headers = lines.data;
    return true;
}

static bool read_expected(struct load_spec *spec, struct request *r, struct complaint *c)
{
    const char *status = request_get(r, "expect_status");
    const char *version = request_get(r, "expect_version");
    const char *body = request_get(r, "expect_body");
    int64_t code;

    spec->expect_low = 200;
    spec->expect_high = 299;
    if (status) {
        if (strlen(status) == 3 && strchr("12345", status[0]) && !strcmp(status + 1, "xx")) {
            spec->expect_low = (status[0] - '0') * 100;
            spec->expect_high = spec->expect_low + 99;
        } else if (text_int("expect_status", status, 100, 599, &code, c)) {
            spec->expect_low = spec->expect_high = (int)code;
        } else {
            return false;
        }
    }
    if (version && *version)
        spec->expect_version = must_strdup(version);
    if (body && *body) {
        if (strlen(body) > 65535)
            return complain(c, "expect_body: longer than 65535 bytes");
        spec->expect_body = must_strdup(body);
    }
    return true;
}

static bool read_http(struct load_spec *spec, struct request *r, struct complaint *c)
{
    const char *method = request_get(r, "method");
    const char *path = request_get(r, "path");
    const char *host = request_get(r, "host");
    const char *body = request_get(r, "body");

    if (!path || !*path)
        path = "/";
    if (!method)
        method = body ? "POST" : "GET";
    if (!token(method) || strlen(method) > 20 || !strcmp(method, "CONNECT"))
        return complain(c, "method=%.40s: want GET, POST or the like", method);
    if (path[0] != '/' || !printable(path, false) || strlen(path) > 8192)
        return complain(c, "path=%.40s: want a path that begins with / and has no spaces", path);
    if (host && !printable(host, false))
        return complain(c, "host=%.40s: want a host name", host);
    spec->method = must_strdup(method);
    spec->path = must_strdup(path);
    if (host && *host)
        spec->host = must_strdup(host);
    if (body) {
        spec->body = must_strdup(body);
        spec->body_len = strlen(body);
    }
    return read_headers(spec, r, c) && read_expected(spec, r, c);
}

static bool read_engine(struct load_spec *spec, struct request *r, struct complaint *c)
{
    const char *connections = request_get(r, "connections");
    const char *threads = request_get(r, "threads");
    const char *timeout = request_get(r, "timeout");
    const char *drain = request_get(r, "drain");
    const char *start = request_get(r, "start");
    const char *resolve = request_get(r, "resolve");
    const char *backlog = request_get(r, "backlog");
    const char *catchup = request_get(r, "catchup");
    const char *seed = request_get(r, "seed");
    const char *spin = request_get(r, "spin");
    const char *close_each = request_get(r, "close");
    const char *mishaps = request_get(r, "mishaps");
    const char *slow = request_get(r, "slow");
    int64_t number;
    double peak;

    spec->connections = 32;
    spec->threads = 1;
    spec->timeout = 10 * NS_PER_S;
    spec->resolve = NS_PER_S;
    spec->seed = 1;
    spec->catchup = 4;
    if (connections) {
        if (!text_int("connections", connections, 1, CONNECTIONS_MAX, &number, c))
            return false;
        spec->connections = (int)number;
    }
    if (threads) {
        if (!text_int("threads", threads, 1, THREADS_MAX, &number, c))
            return false;
        spec->threads = (int)number;
    }
    if (spec->threads > spec->connections)
        return complain(c, "threads=%d: more than the %d connections that they would share",
                        spec->threads, spec->connections);
    if (seed) {
        if (!text_int("seed", seed, 0, INT64_MAX, &number, c))
            return false;
        spec->seed = (uint64_t)number;
    }
    if (catchup) {
        char *end;

        spec->catchup = strtod(catchup, &end);
        if (end == catchup || *end || !(spec->catchup >= 1 && spec->catchup <= 1e6))
            return complain(c, "catchup=%.40s: want a multiple of the rate, 1 or more", catchup);
    }
    if ((timeout && !text_duration("timeout", timeout, NS_PER_MS, DAY, &spec->timeout, c)) ||
        (start && !text_int("start", start, 0, INT64_MAX, &spec->start, c)) ||
        (resolve && !text_duration("resolve", resolve, 0, DAY, &spec->resolve, c)) ||
        (spin && !text_bool("spin", spin, &spec->spin, c)) ||
        (close_each && !text_bool("close", close_each, &spec->close_each, c)) ||
        (mishaps && !text_bool("mishaps", mishaps, &spec->mishaps, c)) ||
        (slow && !text_duration("slow", slow, 0, DAY, &spec->slow, c)))
        return false;
    if (spec->slow && !spec->mishaps)
        return complain(c, "slow= says which requests mishaps=1 tells of: ask for that too");
    if (spec->resolve && spec->resolve < 10 * NS_PER_MS)
        return complain(c, "resolve=%.40s: want 10ms at least, or 0", resolve);
    spec->drain = spec->timeout < NS_PER_S ? spec->timeout : NS_PER_S;
    if (drain && !text_duration("drain", drain, 0, DAY, &spec->drain, c))
        return false;
    peak = load_spec_peak(spec);
    spec->backlog = peak > 1000 ? (int64_t)ceil(peak) : 1000;
    return !backlog || text_int("backlog", backlog, 1, BACKLOG_MAX, &spec->backlog, c);
}

bool load_spec_read(struct load_spec *spec, struct request *r, struct complaint *c)
{
    const char *targets = request_need(r, "targets", c);

    *spec = (struct load_spec){0};
    if (targets && target_names_read(&spec->names, targets, c) && read_schedule(spec, r, c) &&
        read_http(spec, r, c) && read_engine(spec, r, c) && request_all_known(r, c))
        return true;
    load_spec_free(spec);
    return false;
}
