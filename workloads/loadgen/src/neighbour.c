#include "neighbour.h"

#include <errno.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel's interface for this is rtnetlink's, whose headers a compiler for slim
 * images lacks: these are linux/netlink.h, linux/rtnetlink.h, linux/neighbour.h. */
enum {
    FAMILY_ROUTE = 0,     /* NETLINK_ROUTE */
    TYPE_ERROR = 2,       /* NLMSG_ERROR, also of the acknowledgement */
    TYPE_SET = 67,        /* RTM_SETNEIGHTBL */
    FLAGS = 0x1 | 0x4,    /* NLM_F_REQUEST, NLM_F_ACK */
    TABLE_NAME = 1,       /* NDTA_NAME */
    TABLE_PARAMETERS = 6, /* NDTA_PARMS */
    FOR_INTERFACE = 1,    /* NDTPA_IFINDEX */
    RETRY_TIME = 5,       /* NDTPA_RETRANS_TIME, milliseconds */
    RETRIES = 11,         /* NDTPA_MCAST_PROBES */
};

#define FOR_MS 60000 /* how long the kernel asks for an owner; its own is 3 tries */

struct header {
    uint32_t len;
    uint16_t type, flags;
    uint32_t seq, pid;
};

struct attribute {
    uint16_t len, type;
};

struct request {
    struct header head;
    uint8_t family, pad[3];
    struct attribute name;
    char table[12]; /* "arp_cache" or "ndisc_cache", padded to 4 */
    struct attribute parameters;
    struct attribute interface;
    uint32_t index;
    struct attribute retry;
    uint32_t ms[2]; /* one u64, which attributes align to 4 only */
    struct attribute retries;
    uint32_t count;
};

struct answer {
    struct header head;
    int32_t error;
    struct header of;
    char rest[512];
};

static int set(int fd, const char *table, uint8_t family, unsigned index, uint64_t ms)
{
    struct request r = {.head = {.len = sizeof r, .type = TYPE_SET, .flags = FLAGS}, .family = family};
    struct answer a;
    size_t len = strlen(table) + 1;

    r.name = (struct attribute){.len = (uint16_t)(sizeof r.name + len), .type = TABLE_NAME};
    memcpy(r.table, table, len);
    r.interface = (struct attribute){.len = sizeof r.interface + sizeof r.index, .type = FOR_INTERFACE};
    r.index = index;
    r.retry = (struct attribute){.len = sizeof r.retry + sizeof r.ms, .type = RETRY_TIME};
    memcpy(r.ms, &ms, sizeof r.ms);
    /* Giving up drops the connections' first packets, which TCP sends again a second later. */
    r.retries = (struct attribute){.len = sizeof r.retries + sizeof r.count, .type = RETRIES};
    r.count = (uint32_t)(FOR_MS / ms);
    r.parameters = (struct attribute){.len = sizeof r - offsetof(struct request, parameters), .type = TABLE_PARAMETERS};
    if (send(fd, &r, sizeof r, 0) < 0 || recv(fd, &a, sizeof a, 0) < (ssize_t)(sizeof a.head + sizeof a.error))
        return -errno;
    return a.head.type == TYPE_ERROR ? a.error : -EPROTO;
}

int neighbour_retry(uint64_t ms)
{
    static const struct {
        const char *table;
        uint8_t family;
    } tables[] = {{"arp_cache", AF_INET}, {"ndisc_cache", AF_INET6}};
    struct if_nameindex *all = if_nameindex();
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, FAMILY_ROUTE);
    int done = 0;
    int error = 0;

    if (fd < 0 || !all)
        error = -errno;
    for (struct if_nameindex *i = all; !error && i->if_index; i++) {
        if (strcmp(i->if_name, "lo") == 0)
            continue;
        for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
            int said = set(fd, tables[t].table, tables[t].family, i->if_index, ms);

            if (said == 0)
                done++;
            else if (said == -EPERM)
                error = said;
        }
    }
    if (all)
        if_freenameindex(all);
    if (fd >= 0)
        close(fd);
    return done ? done : error;
}
