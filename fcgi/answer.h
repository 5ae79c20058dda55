/* What a request gets: the beginning of a stream, an answer at once, or one that the broker has to
 * be asked for first: the position (HEAD), or a document. */
#pragma once

#include "client.h"

void answer_request(struct client *client, const struct request *request);

/* Sends the question of an ASKING client to the broker; its inquiry has a token. */
void answer_ask(struct client *client);

void answer_on_position(struct client *client, const struct position *position);
void answer_on_document(struct client *client, const struct wire_document *message);

/* The broker is away: who asks how things are is told so at once. */
void answer_on_broker_lost(struct client *client);
