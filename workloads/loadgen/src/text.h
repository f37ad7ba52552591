/* Reading what people and coordinators write: numbers, durations, rates. Each
 * returns false and leaves a complaint that names the key. */
#ifndef COELOAD_TEXT_H
#define COELOAD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"

/* Decodes %XX in place. false for a broken escape or one of NUL: nothing is changed. */
bool text_percent_decode(char *text);
bool text_percent_valid(const char *text);

bool text_int(const char *key, const char *text, int64_t low, int64_t high, int64_t *value,
              struct complaint *c);
bool text_bool(const char *key, const char *text, bool *value, struct complaint *c);

/* 250us, 5ms, 1.5s, 2m, 1h or 0; into ns. A bare number is refused, since half
 * of its readers would take it for milliseconds. */
bool text_duration(const char *key, const char *text, int64_t low, int64_t high, int64_t *ns,
                   struct complaint *c);

/* Requests a second: 1000, 0.5, 50k, 1.2M. */
bool text_rate(const char *key, const char *text, double *rate, struct complaint *c);

#endif
