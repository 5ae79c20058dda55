/* How a stream comes to its events: the broker is asked, the client greeted, what it missed sent;
 * then it is live. And how it comes to them again: when the broker was away, when it was too slow,
 * or when what its user may have has changed. The guarantee: an id never stands in front of
 * something that was not sent, and where nobody can prove that nothing is missing, a refresh says
 * so. */
#pragma once

#include "client.h"

/* user: of a connection, copied; NULL for the first door. */
void admission_begin(struct client *client, enum wire_form form, const struct wire_topics *topics,
                     const struct request *request);
void admission_begin_connection(struct client *client, struct slice user,
                                const struct wire_topics *topics, const struct request *request);

/* Sends the subscription, unless something of the last one still waits to be written: then it is
 * called again when that is out. */
void admission_ask(struct client *client);

/* So much of a replay has been written: the broker may send more. */
void admission_renew_credit(struct client *client);

/* A live connection leaves its feed: what was begun stays queued, and behind that it subscribes
 * again. Nothing is lost. */
void admission_renew(struct client *client);

/* What the user of a connection may have has changed: whatever was asked is asked again. */
void admission_recheck(struct client *client);

/* It gets no more events: leaves its feed, and the broker is told. */
void admission_end(struct client *client);

/* The broker is away. */
void admission_on_broker_lost(struct client *client);

/* Appends an id line with the position behind all that was queued for it, so that a client that
 * comes back with it has missed nothing; nothing as long as it has none. */
void admission_append_id(struct client *client);

/* --- what the broker says --------------------------------------------------------------------- */

/* False: it grants what was not asked for. */
bool admission_on_accepted(struct client *client, const struct wire_accepted *message) must_check;
void admission_on_refused(struct client *client, const struct wire_refused *message);
void admission_on_refresh(struct client *client, const struct wire_refresh *message);
/* wire_bytes: what it used of the credit. */
void admission_on_replay(struct client *client, const struct wire_event *event, size_t wire_bytes);
void admission_on_subscribed(struct client *client, const struct wire_position *message);
