/* What health counts over all handlers and topics, in steps of SURVEY_STEP items, one step a turn:
 * so even a long count does not delay the reading of Postgres.
 *
 *   FRAMES   counts the frames that wait for handlers, by topic
 *   TOPICS   adds up the topics and the handlers' interests in them, of all tenants and of each
 *   DONE     the sums can be read
 *
 * Items are counted at different moments. An item that comes or goes during a survey may be counted
 * or not. */
#pragma once

#include "overview.h"

enum {
    SURVEY_STEP = 1024,
    SURVEY_CHANNELS_BYTES_MAX = 512 * 1024,
};

enum survey_phase { SURVEY_FRAMES, SURVEY_TOPICS, SURVEY_DONE };

struct survey {
    const struct overview *overview; /* borrowed */
    enum survey_phase phase;
    uint64_t number;                /* of this survey, from 1 */
    const struct delivery *handler; /* FRAMES: borrowed; its queue is read; NULL: all were */
    uint64_t frame;                 /* the next one of its queue, as outq.gone counts */
    uint64_t frames_end;
    uint64_t items; /* looked at */

    uint64_t subscribers;
    uint64_t active_topics; /* with subscribers */
    uint64_t idle_topics;
    uint64_t memory_bytes;  /* of topics, besides what the log accounts for */
    uint64_t client_events; /* that wait for clients */
    uint64_t client_bytes;
};

void survey_init(struct survey *survey, const struct overview *overview);

/* Forgets what an earlier survey has counted. */
void survey_begin(struct survey *survey);

/* The next step. True when the survey is DONE. */
bool survey_step(struct survey *survey) must_check;

/* Call this before the handler leaves the list. */
void survey_on_handler_closing(struct survey *survey, const struct delivery *handler);

/* The tenant of that name, with what was counted for it; NULL: nothing was. */
const struct topic_tenant *survey_tenant(const struct survey *survey, struct slice name) must_check;

/* How many frames of events of the topic wait for handlers. */
uint64_t survey_queued_frames(const struct survey *survey, const struct topic *topic) must_check;
