/* How a stream gets its events: the broker is asked, the client is greeted, the events that it
 * missed are sent, and then it is live. The guarantee: no id is sent before the events that it
 * stands for, and where it cannot be proved that nothing is missing, a refresh says so.
 *
 * A blank line is sent only after data (except in heartbeats of user streams), and an id only with
 * data: many clients forget an id without data, or hand an empty event to the application. So a
 * client that comes with a position is sent no other one until its first event. A client that comes
 * without one gets an `event: position`, or the refresh that follows at once. Existing clients of
 * user streams take the first block for an event: these get their `event: position` when no id was
 * sent for PULSE_LACKS_ID_MS, or at once with ?position=1.
 *
 * A client for which more than client_queue_bytes wait loses what waits and is told how much, or is
 * ended to resume later, as slow_client says. Durable events are not lost: a client for which some
 * wait subscribes again instead, from what it has. */
#pragma once

#include "stream_query.h"
#include "subscriber.h"

void subscribe_init(struct subscribers *subscribers, struct clients *clients,
                    struct broker_questions *questions);
/* All clients are gone. */
void subscribe_release(struct subscribers *subscribers);

/* Takes fd over. A HEAD is answered when the broker has accepted or refused it, as it would a
 * stream. */
struct client *subscribe_begin(struct subscribers *subscribers, int fd, uint16_t request_id,
                               const struct request *request, const struct stream_query *wanted);

/* --- all of them ------------------------------------------------------------------------------ */

void subscribe_on_up(struct subscribers *subscribers);
void subscribe_on_down(struct subscribers *subscribers);

/* The rights of that tenant's user have changed; user "": those of all users of all tenants. */
void subscribe_on_recheck(struct subscribers *subscribers, const struct wire_recheck *message);

/* --- what the broker says --------------------------------------------------------------------- */

/* The stream that asked with this token; NULL: it has gone. */
struct subscriber *subscribe_find(const struct subscribers *subscribers, uint64_t token) must_check;

/* False: it grants topics that were not asked for, which breaks the protocol. */
bool subscribe_on_accepted(struct subscriber *subscriber,
                           const struct wire_accepted *message) must_check;
void subscribe_on_refused(struct subscriber *subscriber, const struct wire_refused *message);
void subscribe_on_refresh(struct subscriber *subscriber, const struct wire_refresh *message);
/* wire_bytes: what it used of the credit. */
void subscribe_on_replay(struct subscriber *subscriber, const struct wire_event *event,
                         size_t wire_bytes);
/* subscribers.position is the one that it was subscribed at. */
void subscribe_on_subscribed(struct subscriber *subscriber);
