/* One request of the control protocol: a verb and key=value pairs. */
#ifndef COELOAD_REQUEST_H
#define COELOAD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "fault.h"

struct request {
    const char *verb;
    struct pair {
        const char *key;
        char *value;
        bool decoded;
        bool taken;
    } *pairs;
    size_t count;
};

/* Takes the line apart in place; the request points into it. */
bool request_parse(struct request *r, char *line, struct complaint *c);
void request_free(struct request *r);

/* The value of a key, or NULL. A key given twice is its last value. */
const char *request_get(struct request *r, const char *key);
/* The same, but it must be there and not be empty. */
const char *request_need(struct request *r, const char *key, struct complaint *c);
/* The value as it was sent, escapes and all: for lists whose elements are escaped
 * one by one. Use either this or request_get for a key, not both. */
const char *request_raw(struct request *r, const char *key);
/* Walks over a key that may be repeated: start with *at = 0. */
const char *request_next(struct request *r, const char *key, size_t *at);
/* A key that nobody asked for is a spelling mistake: it must not be ignored. */
bool request_all_known(struct request *r, struct complaint *c);

#endif
