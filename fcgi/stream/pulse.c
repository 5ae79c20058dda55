#include "pulse.h"

enum {
    PULSE_LACKS_ID_MS = 2000, /* then a stream that was sent no id gets its position */
};

static const struct config *config_of(const struct subscriber *subscriber) {
    return subscriber->client.clients->config;
}

static int64_t now_ms(const struct subscriber *subscriber) {
    return client_now_ms(&subscriber->client);
}

/* --- age -------------------------------------------------------------------------------------- */

/* Streams that were opened together do not end together. */
void pulse_start_age(struct subscriber *subscriber) {
    int64_t age_ms = config_of(subscriber)->max_stream_age;
    subscriber->ends_ms = INT64_MAX;
    if (age_ms > 0) {
        subscriber->ends_ms =
            now_ms(subscriber) + age_ms - random_below((uint32_t)(age_ms / 10) + 1);
    }
}

bool pulse_is_old(const struct subscriber *subscriber) {
    return now_ms(subscriber) >= subscriber->ends_ms;
}

/* --- ids -------------------------------------------------------------------------------------- */

/* When it was last sent an id. Events of the feed have ids, too. */
static int64_t last_id_ms(const struct subscriber *subscriber) {
    bool is_live = subscriber->state == SUBSCRIBER_LIVE;
    return is_live && subscriber->audience->last_ms > subscriber->id_ms
               ? subscriber->audience->last_ms
               : subscriber->id_ms;
}

static bool is_position_due(const struct subscriber *subscriber) {
    int64_t last_ms = last_id_ms(subscriber);
    int64_t since_ms = now_ms(subscriber) - last_ms;
    if (subscriber_lacks_id(subscriber)) {
        return since_ms >= PULSE_LACKS_ID_MS;
    }
    return subscriber->state == SUBSCRIBER_LIVE &&
           since_ms >= config_of(subscriber)->position_interval &&
           subscriber->subscribers->moved_ms > last_ms;
}

/* --- heartbeats ------------------------------------------------------------------------------- */

/* At most keep_alive, and up to a fifth less, so that clients that got the same event at the same
 * time do not get their heartbeats at the same time, too. */
static int64_t heartbeat_ms(const struct subscriber *subscriber) {
    int64_t keep_alive_ms = config_of(subscriber)->keep_alive;
    return keep_alive_ms - random_below((uint32_t)(keep_alive_ms / 5) + 1);
}

static int64_t min_ms(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void pulse_again(struct subscriber *subscriber, int64_t delay_ms) {
    delay_ms = min_ms(delay_ms, subscriber->ends_ms - now_ms(subscriber));
    int64_t position_ms = subscriber->id_ms + PULSE_LACKS_ID_MS - now_ms(subscriber);
    if (subscriber_lacks_id(subscriber) &&
        position_ms > 0) { /* else there was no position to send */
        delay_ms = min_ms(delay_ms, position_ms);
    }
    client_start_timer(&subscriber->client, delay_ms > 0 ? delay_ms : 0);
}

void pulse_start(struct subscriber *subscriber) {
    subscriber->client.written_ms = now_ms(subscriber);
    subscriber->id_ms = now_ms(subscriber);
    pulse_again(subscriber, heartbeat_ms(subscriber));
    client_flush_soon(&subscriber->client);
}

/* Existing clients of user streams split what they get at blank lines, so a comment ends with
 * one. */
static void append_heartbeat(struct subscriber *subscriber) {
    bool is_event = subscriber->has_heartbeat_events && subscriber_append_position(subscriber);
    if (!is_event) {
        sse_comment(subscriber_own(subscriber), "heartbeat");
        buf_append_text(subscriber_own(subscriber), subscriber_has_user(subscriber) ? "\n" : "");
    }
    client_flush_soon(&subscriber->client);
}

/* True if nothing waits for a live client: the position that it would be told comes after that. */
static bool is_quiet(const struct subscriber *subscriber) {
    return subscriber->state != SUBSCRIBER_LIVE || output_is_empty(&subscriber->client.seat.output);
}

/* Sends what is due. Returns how long ago something was sent. */
static int64_t break_silence(struct subscriber *subscriber, int64_t silence_ms) {
    bool is_due = silence_ms >= config_of(subscriber)->keep_alive * 4 / 5;
    if (is_quiet(subscriber) && is_position_due(subscriber) &&
        subscriber_append_position(subscriber)) {
        client_flush_soon(&subscriber->client);
        return 0;
    }
    if (is_due && is_quiet(subscriber)) {
        append_heartbeat(subscriber);
    }
    return is_due ? 0 : silence_ms;
}

void pulse_beat(struct subscriber *subscriber) {
    if (subscriber->client.is_blocked) {
        pulse_again(subscriber, client_patience_ms(&subscriber->client));
        return;
    }
    int64_t silence_ms = now_ms(subscriber) - subscriber->client.written_ms;
    silence_ms = break_silence(subscriber, silence_ms);
    pulse_again(subscriber, heartbeat_ms(subscriber) - silence_ms);
}
