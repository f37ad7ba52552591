/* A byte buffer that grows, and the program's only answer to lack of memory. */
#ifndef COELOAD_BUF_H
#define COELOAD_BUF_H

#include <stddef.h>

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_text(struct buf *b, const char *text);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_drop_front(struct buf *b, size_t len);
void buf_base64(struct buf *b, const void *data, size_t len);
void buf_free(struct buf *b);

/* These do not return on failure: there is no half of a measurement to save. */
void *must_alloc(size_t size);
void *must_calloc(size_t count, size_t size);
void *must_realloc(void *old, size_t size);
char *must_strdup(const char *text);

#endif
