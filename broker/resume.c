#include "resume.h"

#include "broker.h"

/* So many entries of the log are looked at in one turn, whether they are sent or not. */
enum { RESUME_ENTRIES = 65536 };

void resume_begin(struct handler *handler, enum position_kind kind,
                  const struct position *position) {
    const struct markers *markers = &handler->broker->markers;
    struct resume *resume = &handler->resume;
    resume->position = *position;
    if (kind == POSITION_NONE || LIST_EMPTY(&handler->subscriptions)) {
        resume->is_place = true; /* nobody can have missed anything */
        resume->place = markers->count;
    } else {
        resume->is_place = markers_resolve(markers, position, &resume->place);
    }
    resume_pump(handler);
}

static void refuse(struct handler *handler) {
    struct wire_refresh message = {.reason = SSE_REFRESH_RESTART, .dropped = SSE_DROPPED_UNKNOWN};
    markers_position(&handler->broker->markers, &message.position);
    handler_take(handler, wire_encode_refresh(&message));
    handler_on_resumed(handler);
}

static void tell_drop(struct handler *handler, struct subscription *subscription, uint64_t floor) {
    const struct topic *topic = subscription->topic;
    struct wire_refresh message = {.topic = {topic->name, topic->name_length},
                                   .position = handler->resume.position,
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    subscription->floor_told = floor;
    handler_take(handler, wire_encode_refresh(&message));
}

/* Nothing of the topic stands between here and a break. */
static bool is_at_break(const struct handler *handler, struct topic *topic) {
    const struct history_entry *next =
        history_next(&handler->broker->history, &topic, 1, handler->resume.place);
    return next != NULL && next->topic == NULL;
}

/* Something that is not there any more may have been about one of its topics. False if not all
 * could be told yet: there may be more topics than the queue has room for. */
static bool tell_drops(struct handler *handler) {
    struct subscription *subscription;
    LIST_FOREACH(subscription, &handler->subscriptions, of_handler) {
        uint64_t floor = history_floor(&handler->broker->history, subscription->topic);
        if (floor > handler->resume.place && floor > subscription->floor_told) {
            if (is_at_break(handler, subscription->topic)) {
                continue; /* it will be told at once by the one about the break */
            }
            if (!handler_wants_more(handler)) {
                return false;
            }
            tell_drop(handler, subscription, floor);
            if (handler->state == HANDLER_CLOSED) {
                return false; /* and its subscriptions with it */
            }
        }
    }
    return true;
}

static void send_entry(struct handler *handler, const struct history_entry *entry) {
    struct broker *broker = handler->broker;
    struct wire_refresh refresh;
    struct wire_event event;
    if (entry->topic == NULL) {
        check(wire_decode_refresh(wire_body(entry->frame), &refresh));
        handler->resume.position = refresh.position;
    } else if (topic_subscription(entry->topic, handler, &handler->subscriptions) != NULL) {
        check(wire_decode_event(wire_body(entry->frame), &event));
        handler->resume.position = event.position;
        broker_count_sent(broker, entry->topic);
    } else {
        return;
    }
    handler_send(handler, entry->frame);
}

void resume_pump(struct handler *handler) {
    struct broker *broker = handler->broker;
    struct resume *resume = &handler->resume;
    if (!resume->is_place) {
        if (broker_is_listening(broker)) {
            refuse(handler);
        }
        return;
    }
    if (!tell_drops(handler)) {
        return;
    }
    const struct history_entry *entry = history_after(&broker->history, resume->place);
    for (size_t looked_at = 0; entry != NULL && handler->state == HANDLER_RESUMING &&
                               handler_wants_more(handler) && looked_at < RESUME_ENTRIES;
         looked_at++) {
        resume->place = entry->place;
        send_entry(handler, entry);
        entry = TAILQ_NEXT(entry, link);
    }
    if (handler->state != HANDLER_RESUMING) {
        return;
    }
    if (entry == NULL) {
        handler_on_resumed(handler);
    } else {
        handler_refill_soon(handler);
    }
}
