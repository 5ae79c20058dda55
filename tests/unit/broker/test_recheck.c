/* When handlers are told to let user streams subscribe again: at once, and then not too often. */
#include "recheck.h"
#include "support.h"

#include <stdlib.h>

struct scene {
    struct loop *loop;
    struct recheck recheck;
    struct buf told; /* the users, each ended by a space, of another tenant than "" as tenant/user;
                      * "*": all users */
    uint64_t streams;
};

static void on_tell(void *self, struct slice tenant, struct slice user) {
    struct scene *scene = self;
    buf_append_slice(&scene->told, tenant);
    buf_append_text(&scene->told, tenant.length > 0 ? "/" : "");
    buf_append_slice(&scene->told, user.length == 0 ? slice_of("*") : user);
    buf_append_text(&scene->told, " ");
}

static uint64_t count_streams(void *self) {
    struct scene *scene = self;
    return scene->streams;
}

static void scene_begin(struct scene *scene) {
    struct recheck_owner owner = {scene, on_tell, count_streams};
    *scene = (struct scene){.loop = loop_create()};
    recheck_init(&scene->recheck, scene->loop, &owner);
}

static void scene_end(struct scene *scene) {
    recheck_release(&scene->recheck);
    loop_destroy(&scene->loop);
    buf_release(&scene->told);
}

static void expect_told(struct scene *scene, const char *wanted) {
    expect_slice(buf_slice(&scene->told), slice_of(wanted), "who was told");
    buf_consume(&scene->told, scene->told.length);
}

static void ask(struct scene *scene, const char *user) {
    recheck_user(&scene->recheck, LITERAL(""), slice_of(user));
}

static void end_pause(struct scene *scene) {
    run_for(scene->loop, RECHECK_PAUSE_MS_MIN + 20);
}

static void test_first_at_once_others_together(void **state) {
    struct scene scene;
    scene_begin(&scene);
    ask(&scene, "a");
    expect_told(&scene, "a ");
    ask(&scene, "b");
    ask(&scene, "a");
    ask(&scene, "b");
    expect_told(&scene, "");
    end_pause(&scene);
    expect_told(&scene, "b a ");
    end_pause(&scene); /* nothing is told */
    expect_told(&scene, "");
    ask(&scene, "c");
    expect_told(&scene, "c ");
    scene_end(&scene);
}

static void test_everybody_stands_for_all(void **state) {
    struct scene scene;
    scene_begin(&scene);
    ask(&scene, "a");
    ask(&scene, "b");
    ask(&scene, "");
    ask(&scene, "c");
    expect_told(&scene, "a ");
    end_pause(&scene);
    expect_told(&scene, "* ");
    scene_end(&scene);
}

/* After a break all user streams have to subscribe again, since hints may have been missed. */
static void test_everybody_at_once(void **state) {
    struct scene scene;
    scene_begin(&scene);
    ask(&scene, "a");
    ask(&scene, "b");
    recheck_everybody(&scene.recheck);
    recheck_everybody(&scene.recheck);
    expect_told(&scene, "a * * ");
    ask(&scene, "c");
    end_pause(&scene);
    expect_told(&scene, "c ");
    scene_end(&scene);
}

/* One user more than can be kept. */
static void test_too_many_users(void **state) {
    for (unsigned more = 0; more < 2; more++) {
        struct scene scene;
        struct buf wanted = {0};
        scene_begin(&scene);
        ask(&scene, "first");
        expect_told(&scene, "first ");
        for (unsigned i = 0; i < RECHECK_USERS_MAX + more; i++) {
            char user[16];
            snprintf(user, sizeof user, "u%u", i);
            ask(&scene, user);
            buf_printf(&wanted, "%s ", user);
        }
        buf_append(&wanted, "", 1);
        end_pause(&scene);
        expect_told(&scene, more == 0 ? wanted.bytes : "* ");
        buf_release(&wanted);
        scene_end(&scene);
    }
}

/* Forged hints, as fast as possible. */
static void test_flood(void **state) {
    static const struct {
        uint64_t streams;
        size_t passes_max;
    } cases[] = {{0, 4}, {5000, 1}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin(&scene);
        scene.streams = cases[i].streams;
        int64_t start_ms = clock_ms();
        while (clock_ms() - start_ms < 3 * RECHECK_PAUSE_MS_MIN) {
            ask(&scene, "");
            run_turns(scene.loop, 1);
        }
        assert_in_range(scene.told.length, 2, 2 * cases[i].passes_max);
        scene_end(&scene);
    }
}

/* No user has such a name; it must not be taken for "all users". */
static void test_user_with_nul(void **state) {
    struct scene scene;
    scene_begin(&scene);
    recheck_user(&scene.recheck, LITERAL("t"), LITERAL("\0a"));
    end_pause(&scene);
    expect_told(&scene, "");
    scene_end(&scene);
}

/* The same user of two tenants is not the same. A user's name may hold what separates them. */
static void test_tenants(void **state) {
    struct scene scene;
    scene_begin(&scene);
    recheck_user(&scene.recheck, LITERAL("t"), LITERAL("a"));
    expect_told(&scene, "t/a ");
    recheck_user(&scene.recheck, LITERAL(""), LITERAL("a"));
    recheck_user(&scene.recheck, LITERAL("s"), LITERAL("a"));
    recheck_user(&scene.recheck, LITERAL("s"), LITERAL("a"));
    recheck_user(&scene.recheck, LITERAL(""), LITERAL("s\na"));
    end_pause(&scene);
    expect_told(&scene, "a s/a s\na ");
    recheck_user(&scene.recheck, LITERAL("t"), LITERAL(""));
    end_pause(&scene);
    expect_told(&scene, "* ");
    scene_end(&scene);
}

RUN_TESTS(TEST(test_tenants), TEST(test_first_at_once_others_together),
          TEST(test_everybody_stands_for_all), TEST(test_everybody_at_once),
          TEST(test_too_many_users), TEST(test_flood), TEST(test_user_with_nul))
