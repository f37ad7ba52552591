/* A load's figures as JSON (for the coordinator and for --json) and as text. */
#ifndef COELOAD_REPORT_H
#define COELOAD_REPORT_H

#include <stdio.h>

#include "json.h"
#include "load.h"

/* All keys of a "second" and of a "done" event but "event" and "id". */
void report_second(struct json *j, const struct load_spec *spec, const struct second *second);
void report_total(struct json *j, const struct load_spec *spec, const struct load_total *total);

/* p50 … max in milliseconds. */
void report_percentiles(struct json *j, const char *key, const struct histogram *h);

void report_text(FILE *out, const struct load_spec *spec, const struct load_total *total);

#endif
