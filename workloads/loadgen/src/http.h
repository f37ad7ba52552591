/* An incremental parser of HTTP/1.x responses.
 *
 * It is fed whatever a read returned and keeps no more than part of one header
 * line; bodies are counted and dropped. It knows what a client must know to find
 * the end of an answer, and four header lines besides.
 */
#ifndef COELOAD_HTTP_H
#define COELOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_LINE_MAX 512        /* what we keep of a header line that came in pieces */
#define HTTP_HEAD_MAX (256 << 10) /* a longer head is not an answer but an attack */
#define HTTP_VALUE_MAX 128

/* Who answered: kept only for those who ask, since most requests need not know. */
struct http_identity {
    char instance[HTTP_VALUE_MAX];
    char version[HTTP_VALUE_MAX];
    char started[HTTP_VALUE_MAX];
};

/* Looks for a text in bodies of any length, cut anywhere (Knuth-Morris-Pratt). */
struct http_search {
    const char *text;
    size_t len;
    const uint16_t *fallback; /* of http_search_prepare() */
};

enum http_result {
    HTTP_MORE, /* feed it more */
    HTTP_DONE, /* the answer is complete */
    HTTP_BAD,  /* this is not HTTP */
};

struct http {
    uint8_t state;
    bool head_request; /* the request was HEAD: no body, whatever the head says */
    bool keepalive;    /* valid once done: the connection can be used again */
    bool chunked;
    bool has_length;
    bool matched; /* the text searched for was found */
    uint16_t code;
    uint16_t line_len;
    uint16_t match_at;
    uint32_t head_len;
    uint64_t left; /* of the body or of the chunk */
    struct http_identity *identity;
    const struct http_search *search;
    char line[HTTP_LINE_MAX];
};

/* Ready for the next answer on the same connection. identity and search may be NULL. */
void http_begin(struct http *h, bool head_request, struct http_identity *identity,
                const struct http_search *search);

/* Consumes at most len bytes; *used tells how many belonged to this answer. */
enum http_result http_feed(struct http *h, const char *data, size_t len, size_t *used);

/* The connection was closed. DONE if that is how this answer ends; MORE if it
 * ended too early; never BAD. */
enum http_result http_closed(const struct http *h);

/* Whether any byte of an answer has come. */
bool http_begun(const struct http *h);

/* Returns the fallback table, which the caller frees; the text is at most 65535 long. */
uint16_t *http_search_prepare(const char *text, size_t len);

#endif
