#include "request.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "text.h"

bool request_parse(struct request *r, char *line, struct complaint *c)
{
    char *save = NULL;
    size_t cap = 0;

    *r = (struct request){0};
    r->verb = strtok_r(line, " \t\r", &save);
    if (!r->verb)
        return complain(c, "empty request");
    for (char *word; (word = strtok_r(NULL, " \t\r", &save));) {
        char *equals = strchr(word, '=');

        if (!equals || equals == word)
            return complain(c, "'%.40s' is not key=value", word);
        *equals = '\0';
        if (!text_percent_valid(equals + 1))
            return complain(c, "%.40s: broken %%-escape", word);
        if (r->count == cap) {
            cap = cap ? cap * 2 : 16;
            r->pairs = must_realloc(r->pairs, cap * sizeof *r->pairs);
        }
        r->pairs[r->count++] = (struct pair){.key = word, .value = equals + 1};
    }
    return true;
}

void request_free(struct request *r)
{
    free(r->pairs);
    *r = (struct request){0};
}

static struct pair *next_pair(struct request *r, const char *key, size_t *at)
{
    while (*at < r->count) {
        struct pair *pair = &r->pairs[(*at)++];

        if (!strcmp(pair->key, key)) {
            pair->taken = true;
            return pair;
        }
    }
    return NULL;
}

const char *request_next(struct request *r, const char *key, size_t *at)
{
    struct pair *pair = next_pair(r, key, at);

    if (!pair)
        return NULL;
    if (!pair->decoded)
        pair->decoded = text_percent_decode(pair->value);
    return pair->value;
}

const char *request_get(struct request *r, const char *key)
{
    const char *found = NULL;
    size_t at = 0;

    for (const char *value; (value = request_next(r, key, &at));)
        found = value;
    return found;
}

const char *request_raw(struct request *r, const char *key)
{
    const char *found = NULL;
    size_t at = 0;

    for (struct pair *pair; (pair = next_pair(r, key, &at));)
        found = pair->value;
    return found;
}

const char *request_need(struct request *r, const char *key, struct complaint *c)
{
    const char *value = request_get(r, key);

    if (!value || !*value) {
        complain(c, "%s needs %s=", r->verb, key);
        return NULL;
    }
    return value;
}

bool request_all_known(struct request *r, struct complaint *c)
{
    for (size_t i = 0; i < r->count; i++)
        if (!r->pairs[i].taken)
            return complain(c, "%s knows no key '%.40s'", r->verb, r->pairs[i].key);
    return true;
}
