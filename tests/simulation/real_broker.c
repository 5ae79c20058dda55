#include "real.h"

#include "judge.h"

#include "broker.h"
#include "listener.h"

enum { HANDLER_PID = 4242 };

struct broker *real_broker_create(struct loop *loop, const struct config *config) {
    char reason[BROKER_REASON_BYTES];
    struct broker *broker = broker_create(loop, config, listener_create);
    if (!broker_start(broker, reason)) {
        die(3, "broker: %s", reason);
    }
    return broker;
}

void real_broker_destroy(struct broker **broker) {
    broker_destroy(broker);
}

static struct markers order;

void real_order_begin(const struct broker *set_of) {
    markers_init(&order, INT64_MAX, (struct slice){0}, 0);
    memcpy(order.set, set_of->journal.markers.set, sizeof order.set);
    markers_trust(&order, 0);
}

void real_order_release(void) {
    markers_release(&order);
}

void real_order_count(const char *marker, int sender_pid) {
    markers_count(&order);
    if (marker != NULL) {
        enum marker_verdict verdict = markers_hear(&order, slice_of(marker), sender_pid, 0);
        (void)verdict;
    }
}

uint64_t real_order_place(const char *id) {
    struct position position;
    uint64_t place;
    bool is_known = position_parse(slice_of(id), &position) == POSITION_KNOWN &&
                    markers_resolve(&order, &position, &place);
    return is_known ? place : 0;
}

unsigned real_topic_slot(const char *name) {
    unsigned hash;
    char room[TOPIC_KEY_BYTES_MAX];
    struct topic_key key = topic_key_make(room, slice_of(judge_tenant), slice_of(name));
    TOPIC_KEY_HASH(key, hash);
    return hash % TOPICS_FLOOR_SLOTS;
}

void real_broker_adopt(struct broker *broker, int fd) {
    handler_create(&broker->handlers, fd, HANDLER_PID);
}
