/* Writes one JSON object a line. Commas are kept by the writer, not the caller. */
#ifndef COELOAD_JSON_H
#define COELOAD_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

struct json {
    struct buf out;
    bool comma;
};

/* Begins a line: {"event":"name" … */
void json_event(struct json *j, const char *name);
/* Ends it: …}\n */
void json_end(struct json *j);

/* A key of NULL writes a bare value, for arrays. */
void json_str(struct json *j, const char *key, const char *value); /* NULL becomes null */
void json_strn(struct json *j, const char *key, const char *value, size_t len);
void json_int(struct json *j, const char *key, int64_t value);
void json_real(struct json *j, const char *key, double value, int decimals);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);
void json_base64(struct json *j, const char *key, const struct buf *value);
void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */

#endif
