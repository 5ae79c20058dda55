/* The survey: step by step, whatever comes and goes between two steps. */
#include "broker_rig.h"
#include "survey.h"

static void publish_range(unsigned first, unsigned end) {
    for (unsigned i = first; i < end; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "t%u", i);
        rig_publish(topic, i);
    }
}

static unsigned run_survey(struct survey *survey) {
    unsigned steps = 1;
    while (!survey_step(survey)) {
        steps++;
    }
    return steps;
}

/* No step looks at more than SURVEY_STEP topics. */
static void test_topics_in_steps(void **state) {
    enum { STEPS = 5 };
    struct survey survey;
    rig_begin();
    rig.config.topic_idle = -1; /* all topics are idle at once */
    publish_range(0, STEPS * SURVEY_STEP);
    survey_init(&survey, &rig.broker->overview);
    for (int i = 0; i < 2; i++) {
        survey_begin(&survey);
        assert_in_range(run_survey(&survey), STEPS, STEPS + 1);
        assert_int_equal(survey.idle_topics, STEPS * SURVEY_STEP);
    }
}

/* The walk's next topic and all others are freed, and new ones come. The walk ends, and meets no
 * freed topic. */
static void test_topics_come_and_go(void **state) {
    struct survey survey;
    rig_begin_with(1024 * 1024, RIG_RING_CAPACITY);
    rig.config.topic_idle = -1;
    publish_range(0, 2 * SURVEY_STEP);
    size_t before = topics_count(&rig.broker->journal.topics);
    survey_init(&survey, &rig.broker->overview);
    survey_begin(&survey);
    unsigned steps = 1;
    while (!survey_step(&survey)) {
        publish_range(10000 * steps, 10000 * steps + 4 * SURVEY_STEP); /* all others go */
        steps++;
    }
    assert_in_range(survey.idle_topics, SURVEY_STEP / 2, before);
    assert_in_range(steps, 2, before / SURVEY_STEP + 3);
}

/* Queues events for a handler whose socket is full. */
static void stall(struct peer *slow, const char *topic, unsigned events) {
    peer_connect(slow);
    peer_subscribe(slow, 1, topic, NULL, POSITION_NONE);
    handler_narrow(slow->handler);
    rig_publish_long(topic, 0, 100 * 1024); /* the socket takes no more after this */
    run_turns(rig.loop, 2);
    for (unsigned i = 1; i < events; i++) {
        rig_publish(topic, i);
    }
    assert_int_equal(slow->handler->delivery.outbox.queue.count, events);
}

static uint64_t frames_of(const struct survey *survey, const char *topic) {
    return survey_queued_frames(survey,
                                topics_find(&survey->overview->journal->topics, key_of(topic)));
}

static void test_frames_in_steps(void **state) {
    enum { EVENTS = 3 * SURVEY_STEP };
    struct peer one;
    struct peer two;
    struct survey survey;
    rig_begin();
    rig_listen();
    stall(&one, "a", EVENTS);
    stall(&two, "b", 7);
    survey_init(&survey, &rig.broker->overview);
    survey_begin(&survey);
    assert_in_range(run_survey(&survey), 4, 5);
    assert_int_equal(frames_of(&survey, "a"), EVENTS);
    assert_int_equal(frames_of(&survey, "b"), 7);
    assert_int_equal(survey.subscribers, 2);
    survey_begin(&survey);
    assert_int_equal(frames_of(&survey, "a"), 0); /* the last survey's counts are forgotten */
    peer_close(&one);
    peer_close(&two);
}

/* The handler whose queue is being counted closes, or reads all of it. */
static void test_handler_goes_between_steps(void **state) {
    for (int reads = 0; reads < 2; reads++) {
        struct peer one;
        struct peer two;
        struct survey *survey;
        rig_begin();
        rig_listen();
        stall(&one, "a", 3 * SURVEY_STEP);
        stall(&two, "b", 7);
        survey = &rig.broker->health.survey;
        survey_begin(survey);
        assert_false(survey_step(survey));
        assert_int_equal(survey->phase, SURVEY_FRAMES);
        if (reads == 1) {
            while (rig_handler()->delivery.outbox.queue.count > 0) {
                (void)(drain_all(one.fd, &one.input) == true);
                run_turns(rig.loop, 2);
            }
        } else {
            peer_close(&one);
        }
        (void)run_survey(survey);
        assert_int_equal(frames_of(survey, "b"), 7);
        if (reads == 1) {
            assert_in_range(frames_of(survey, "a"), 1, 2 * SURVEY_STEP);
            peer_close(&one);
        }
        peer_close(&two);
    }
}

RUN_TESTS(TEST(test_topics_in_steps), TEST(test_topics_come_and_go), TEST(test_frames_in_steps),
          TEST(test_handler_goes_between_steps))
