#include "survey.h"

#include "json.h"

/* --- frames ---------------------------------------------------------------------------------- */

static void read_queue_of(struct survey *survey, const struct delivery *handler) {
    survey->handler = handler;
    if (handler != NULL) {
        survey->frame = handler->outbox.queue.gone;
        survey->frames_end = handler->outbox.queue.gone + handler->outbox.queue.count;
    }
}

static void count_frame(struct survey *survey, const struct payload *payload) {
    struct slice bytes = {payload->bytes, payload->length};
    struct wire_frame frame;
    struct wire_event event;
    if (wire_next(&bytes, WIRE_ANSWER_BYTES_MAX, &frame) != WIRE_NEXT_FRAME ||
        frame.type != WIRE_EVENT || !wire_decode_event(frame.body, &event)) {
        return;
    }
    struct topic *topic = topics_find(&survey->overview->journal->topics, event.topic);
    if (topic != NULL) {
        topic->queued_frames = survey_queued_frames(survey, topic) + 1;
        topic->survey = survey->number;
    }
}

/* Frames that were written since the last step are not counted. */
static void count_next_frame(struct survey *survey) {
    const struct outq *queue = &survey->handler->outbox.queue;
    survey->frame = survey->frame > queue->gone ? survey->frame : queue->gone;
    if (survey->frame < survey->frames_end) {
        count_frame(survey, outq_at(queue, (size_t)(survey->frame - queue->gone)));
        survey->frame++;
    } else {
        read_queue_of(survey, TAILQ_NEXT(survey->handler, link));
    }
}

static void begin_topics(struct survey *survey) {
    survey->phase = SURVEY_TOPICS;
    topics_walk_begin(&survey->overview->journal->topics);
}

/* --- topics ---------------------------------------------------------------------------------- */

/* Leaves out channels for which the document has no room. */
static void add_channel(const struct topic *topic, uint64_t user_streams) {
    struct buf *channels = &topic->tenant->channels;
    size_t longest = 6 * topic->key_length; /* with escapes */
    if (user_streams == 0 || channels->length + longest > SURVEY_CHANNELS_BYTES_MAX) {
        return;
    }
    buf_append_text(channels, channels->length > 0 ? "," : "");
    json_quote(topic_key_name(topic_key_of(topic)), channels);
    buf_printf(channels, ":%llu", (unsigned long long)user_streams);
}

/* The tenant's figures; 0 and empty if this survey has not counted it yet. */
static struct topic_tenant *tenant_of(const struct survey *survey, const struct topic *topic) {
    struct topic_tenant *tenant = topic->tenant;
    if (tenant->survey != survey->number) {
        tenant->survey = survey->number;
        tenant->streams = 0;
        tenant->user_streams = 0;
        tenant->active_topics = 0;
        tenant->dropped_events = 0;
        buf_release(&tenant->channels);
    }
    return tenant;
}

static void count_topic(struct survey *survey, const struct topic *topic, int64_t now_ms) {
    const struct interest *interest;
    struct topic_tenant *tenant = tenant_of(survey, topic);
    uint64_t user_streams = 0;
    LIST_FOREACH(interest, &topic->interests, of_topic) {
        survey->client_events += interest->pending_events;
        survey->client_bytes += interest->queued_bytes;
        survey->memory_bytes += sizeof *interest;
        user_streams += interest->user_streams;
        tenant->streams += interest->streams;
        tenant->user_streams += interest->first_of;
        survey->items++;
    }
    bool is_idle = topic_is_idle(topic, survey->overview->journal->config->topic_idle, now_ms);
    survey->subscribers += topic->subscribers;
    survey->active_topics += topic->subscribers > 0 ? 1 : 0;
    survey->idle_topics += is_idle ? 1 : 0;
    survey->memory_bytes += topic->trail.count > 0 ? 0 : topic_bytes(topic); /* else the log's */
    tenant->active_topics += topic->subscribers > 0 ? 1 : 0;
    tenant->dropped_events += topic->traffic.dropped_events;
    add_channel(topic, user_streams);
}

static void count_next_topic(struct survey *survey, int64_t now_ms) {
    const struct topic *topic = topics_walk(&survey->overview->journal->topics);
    if (topic == NULL) {
        survey->phase = SURVEY_DONE;
    } else {
        count_topic(survey, topic, now_ms);
    }
}

/* --- steps ----------------------------------------------------------------------------------- */

bool survey_step(struct survey *survey) {
    uint64_t end = survey->items + SURVEY_STEP;
    int64_t now_ms = wall_ms();
    while (survey->items < end && survey->phase != SURVEY_DONE) {
        survey->items++;
        if (survey->phase == SURVEY_TOPICS) {
            count_next_topic(survey, now_ms);
        } else if (survey->handler != NULL) {
            count_next_frame(survey);
        } else {
            begin_topics(survey);
        }
    }
    return survey->phase == SURVEY_DONE;
}

void survey_begin(struct survey *survey) {
    const struct overview *overview = survey->overview;
    uint64_t number = survey->number + 1;
    *survey = (struct survey){.overview = overview, .number = number};
    read_queue_of(survey, TAILQ_FIRST(overview->handlers));
}

void survey_on_handler_closing(struct survey *survey, const struct delivery *handler) {
    if (survey->handler == handler) {
        read_queue_of(survey, TAILQ_NEXT(handler, link));
    }
}

uint64_t survey_queued_frames(const struct survey *survey, const struct topic *topic) {
    return topic->survey == survey->number ? topic->queued_frames : 0;
}

void survey_init(struct survey *survey, const struct overview *overview) {
    *survey = (struct survey){.overview = overview, .phase = SURVEY_DONE};
}

const struct topic_tenant *survey_tenant(const struct survey *survey, struct slice name) {
    const struct topic_tenant *tenant = topics_tenant(&survey->overview->journal->topics, name);
    return tenant != NULL && tenant->survey == survey->number ? tenant : NULL;
}
