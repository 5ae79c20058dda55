/* The protocol between the broker and its handlers, on a Unix stream socket. This head is its
 * specification; handler means a process (pgsse-stream), uplink its socket to the broker, client
 * one stream that it serves.
 *
 * A frame is: u32 length of the body, u8 type, body. Integers are little-endian. A str is a u32
 * length and that many bytes. A position is: u64 durable, str marker (empty or 13 bytes), u64
 * since. A topics list is: u16 count, then count strs.
 *
 *   handler -> broker
 *     HELLO        u32 magic, u16 version, u32 pid     first, once
 *     RESUME       u8 is_last, u8 position kind, position, u32 count, count times:
 *                  str topic, u32 clients              second; one or more, the last has is_last
 *     SUBSCRIBE    u64 token, u8 form, u8 position kind, position, str user, str tenant, topics
 *     CREDIT       u64 token, u32 bytes                so much more may be replayed to it
 *     UNSUBSCRIBE  u64 token, u8 form, topics          the same list again; token 0: it is live.
 *                                                      (A connection keeps its token; its list does
 *                                                      not count, as it may have been narrowed.)
 *     ASK_POSITION u64 token
 *     ASK_HEALTH   u64 token, u32 limit                how many topics at most
 *     ASK_CONNECTIONS, ASK_STATUS  u64 token           how many connections; health in short
 *     REPORT       u32 serial, u8 is_last, u32 count, count times:
 *                  str topic, u64 delivered, u64 dropped events, u64 dropped clients (each since
 *                  the last report), u64 pending events, u64 queued bytes (both now)
 *
 *   broker -> handler
 *     WELCOME      u32 magic, u16 version, u32 pid     first, once
 *     ACCEPTED     u64 token, u8 follows, position, topics
 *                  follows: a replay or refresh comes next (one may come in any case, where
 *                  there was no position); topics: those of the ones asked for that the client
 *                  may have, in the same order
 *     REFUSED      u64 token, u16 status, str text     it may have none of them, or there is none
 *     REFRESH      u64 token, u8 is_durable, str topic, position, u8 reason, u64 dropped
 *                  token 0: for every live client, or for those of the topic, if there is one;
 *                  connections only if is_durable: then durable events, too, may be missing
 *     REPLAY       u64 token, and an EVENT's body: for this client alone
 *     SUBSCRIBED   u64 token, position                 from here on the client is live
 *     EVENT        u8 is_durable, position, str topic, str publisher id, u32 id_at, str body
 *     POSITION     position                            answers ASK_POSITION when token is not 0
 *     DOCUMENT     u64 token, u16 status, str document    answers the last three
 *     RECHECK      str user                            its connections, or with "" all, subscribe
 *                                                      anew: what they may have has changed
 *     ASK_REPORT   u32 serial                          answered by REPORTs with it, up to is_last
 *     GOODBYE      str reason                          the broker closes behind it
 *
 * Form: TOPICS clients are sent every event of their topics. CONNECTIONS are clients that get
 * durable events only, whose place is D alone, and only on topics that their user has subscribed to
 * in the database: "connection" means those, here and elsewhere.
 *
 * The life of a subscription: SUBSCRIBE, then ACCEPTED or REFUSED; what is kept behind the client's
 * position as REPLAYs, with a REFRESH at each place where the broker cannot prove that nothing is
 * missing; SUBSCRIBED, when the replay has reached the head. The client is served by EVENT frames
 * from there on, and not before. Everything on an uplink is applied in the order in which it
 * came, so positions never overtake the events that they stand behind. Tokens are never used again;
 * a frame for a token that is not known any more is dropped.
 *
 * A replay runs on credit, WIRE_CREDIT_BYTES at first: each REPLAY uses up the length of its body;
 * while anything is left, one of any size is sent, and the debt is carried. So what waits for one
 * client is bounded, and a client that does not read holds up nobody.
 *
 * An uplink begins with RESUME: where the last one ended (position kind NONE: there was none),
 * and how many clients are live on which topics. (Connections are not among them: they
 * subscribe anew, so that their users are looked up again.) The broker brings them to the head with
 * EVENT and REFRESH frames, exactly as if it had not been lost; then a POSITION
 * follows, and only then are positions told, breaks announced and subscriptions of this handler
 * answered.
 *
 * An EVENT is sent once to a handler, however many of its clients want it. Its body is the one that
 * sse_event_body builds; position is the event's own.
 *
 * After HELLO, versions that differ end the uplink: the broker says WELCOME, with its own
 * version, and GOODBYE; the handler ends its streams and exits, so that the web server starts the
 * one that fits. A frame that breaks these rules ends the uplink with a reason; nobody else
 * notices. */
#pragma once

#include "payload.h"
#include "position.h"
#include "sse.h"

enum {
    WIRE_MAGIC = 0x73736770, /* "pgss" */
    WIRE_VERSION = 3,
    WIRE_HEADER_BYTES = 5,
    WIRE_REQUEST_BYTES_MAX = 64 * 1024,       /* a body from a handler */
    WIRE_ANSWER_BYTES_MAX = 16 * 1024 * 1024, /* a body from the broker */
    WIRE_TOPICS_MAX = 64,
    WIRE_CREDIT_BYTES = 64 * 1024, /* of a replay, at its start */
    WIRE_HEALTH_LIMIT = 1000,      /* topics, unless asked otherwise */
    WIRE_HEALTH_LIMIT_MAX = 65536,
};

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_SUBSCRIBE,
    WIRE_UNSUBSCRIBE,
    WIRE_ASK_POSITION,
    WIRE_ASK_HEALTH,
    WIRE_REPORT,
    WIRE_RESUME,
    WIRE_CREDIT,
    WIRE_ASK_CONNECTIONS,
    WIRE_ASK_STATUS,
    WIRE_WELCOME = 65,
    WIRE_ACCEPTED,
    WIRE_REFUSED,
    WIRE_REFRESH,
    WIRE_SUBSCRIBED,
    WIRE_EVENT,
    WIRE_POSITION,
    WIRE_DOCUMENT,
    WIRE_ASK_REPORT,
    WIRE_GOODBYE,
    WIRE_REPLAY,
    WIRE_RECHECK,
};

/* What a door's clients get, and how their positions are written. */
enum wire_form {
    WIRE_FORM_TOPICS,      /* first door: D.M.S */
    WIRE_FORM_CONNECTIONS, /* third door: D, durable events only */
};
enum { WIRE_FORMS = WIRE_FORM_CONNECTIONS + 1 };

/* Slices of decoded messages point into the frame. */
struct wire_topics {
    size_t count;
    struct slice names[WIRE_TOPICS_MAX];
};

struct wire_hello { /* and WELCOME */
    uint32_t magic;
    uint16_t version;
    uint32_t pid;
};

struct wire_subscribe {
    uint64_t token;
    enum wire_form form;
    enum position_kind position_kind;
    struct position position;
    struct slice user;
    struct slice tenant;
    struct wire_topics topics;
};

struct wire_resume {
    bool is_last;
    enum position_kind position_kind; /* NONE or KNOWN */
    struct position position;
    uint32_t count;
    struct slice entries; /* for wire_next_resume_entry */
};

struct wire_resume_entry {
    struct slice topic;
    uint32_t clients; /* at least 1 */
};

struct wire_credit {
    uint64_t token;
    uint32_t bytes;
};

struct wire_unsubscribe {
    uint64_t token;
    enum wire_form form;
    struct wire_topics topics;
};

struct wire_ask_health {
    uint64_t token;
    uint32_t limit;
};

struct wire_report_entry {
    struct slice topic;
    uint64_t delivered;
    uint64_t dropped_events;
    uint64_t dropped_clients;
    uint64_t pending_events;
    uint64_t queued_bytes;
};

struct wire_report {
    uint32_t serial;
    bool is_last;
    uint32_t count;
    struct slice entries; /* for wire_next_report_entry */
};

struct wire_accepted {
    uint64_t token;
    bool follows;
    struct position position;
    struct wire_topics topics;
};

struct wire_refused {
    uint64_t token;
    uint16_t status;
    struct slice text;
};

struct wire_refresh {
    uint64_t token;
    bool is_durable;
    struct slice topic;
    struct position position;
    enum sse_refresh_reason reason;
    uint64_t dropped; /* or SSE_DROPPED_UNKNOWN */
};

struct wire_position { /* and SUBSCRIBED */
    uint64_t token;
    struct position position;
};

struct wire_event {
    bool is_durable;
    struct position position;
    struct slice topic;
    struct slice publisher_id;
    size_t id_at; /* at most body.length */
    struct slice body;
};

struct wire_replay {
    uint64_t token;
    struct wire_event event;
};

struct wire_document {
    uint64_t token;
    uint16_t status; /* of HTTP */
    struct slice document;
};

/* --- frames ------------------------------------------------------------------------------ */

struct wire_frame {
    enum wire_type type; /* may be none of the enum: what a peer sends is checked by who knows it */
    struct slice body;
};

/* The body of a frame that was encoded here. */
struct slice wire_body(const struct payload *frame) must_check;

enum wire_next { WIRE_NEXT_FRAME, WIRE_NEXT_INCOMPLETE, WIRE_NEXT_TOO_LONG };

/* Takes the first whole frame off *input. */
enum wire_next wire_next(struct slice *input, size_t body_bytes_max,
                         struct wire_frame *frame) must_check;

/* --- encoding: a whole frame, with one reference that is the caller's --------------------- */

struct payload *wire_encode_hello(enum wire_type type, uint32_t pid) must_check;
struct payload *wire_encode_subscribe(const struct wire_subscribe *message) must_check;
struct payload *wire_encode_credit(const struct wire_credit *message) must_check;
struct payload *wire_encode_unsubscribe(const struct wire_unsubscribe *message) must_check;
/* type: WIRE_ASK_POSITION, WIRE_ASK_CONNECTIONS or WIRE_ASK_STATUS */
struct payload *wire_encode_ask(enum wire_type type, uint64_t token) must_check;
struct payload *wire_encode_ask_health(const struct wire_ask_health *message) must_check;
struct payload *wire_encode_accepted(const struct wire_accepted *message) must_check;
struct payload *wire_encode_refused(const struct wire_refused *message) must_check;
struct payload *wire_encode_refresh(const struct wire_refresh *message) must_check;
/* type: WIRE_SUBSCRIBED or WIRE_POSITION */
struct payload *wire_encode_position(enum wire_type type,
                                     const struct wire_position *message) must_check;
struct payload *wire_encode_event(const struct wire_event *message) must_check;
struct payload *wire_encode_replay(const struct wire_replay *message) must_check;
struct payload *wire_encode_document(const struct wire_document *message) must_check;
struct payload *wire_encode_recheck(struct slice user) must_check;
struct payload *wire_encode_ask_report(uint32_t serial) must_check;
struct payload *wire_encode_goodbye(const char *reason) must_check;

/* A REPORT grows entry by entry: begin on an empty buf, add while the frame stays within
 * WIRE_REQUEST_BYTES_MAX (false: it is full, and nothing was added), then end. */
void wire_report_begin(struct buf *report, uint32_t serial);
bool wire_report_add(struct buf *report, const struct wire_report_entry *entry) must_check;
struct payload *wire_report_end(struct buf *report, bool is_last) must_check;

/* A RESUME grows likewise. */
void wire_resume_begin(struct buf *resume, enum position_kind kind,
                       const struct position *position);
bool wire_resume_add(struct buf *resume, const struct wire_resume_entry *entry) must_check;
struct payload *wire_resume_end(struct buf *resume, bool is_last) must_check;

/* --- decoding: false if the body breaks the rules ----------------------------------------- */

bool wire_decode_hello(struct slice body, struct wire_hello *message) must_check;
bool wire_decode_subscribe(struct slice body, struct wire_subscribe *message) must_check;
bool wire_decode_resume(struct slice body, struct wire_resume *message) must_check;
bool wire_decode_credit(struct slice body, struct wire_credit *message) must_check;
bool wire_decode_unsubscribe(struct slice body, struct wire_unsubscribe *message) must_check;
bool wire_decode_ask(struct slice body, uint64_t *token) must_check;
bool wire_decode_ask_health(struct slice body, struct wire_ask_health *message) must_check;
bool wire_decode_report(struct slice body, struct wire_report *message) must_check;
bool wire_decode_accepted(struct slice body, struct wire_accepted *message) must_check;
bool wire_decode_refused(struct slice body, struct wire_refused *message) must_check;
bool wire_decode_refresh(struct slice body, struct wire_refresh *message) must_check;
bool wire_decode_position(struct slice body, struct wire_position *message) must_check;
bool wire_decode_event(struct slice body, struct wire_event *message) must_check;
bool wire_decode_replay(struct slice body, struct wire_replay *message) must_check;
bool wire_decode_document(struct slice body, struct wire_document *message) must_check;
bool wire_decode_recheck(struct slice body, struct slice *user) must_check;
bool wire_decode_ask_report(struct slice body, uint32_t *serial) must_check;
bool wire_decode_goodbye(struct slice body, struct slice *reason) must_check;

/* Takes the first entry off the report; false behind the last, or when it breaks the rules: then
 * count is not 0. */
bool wire_next_report_entry(struct wire_report *report, struct wire_report_entry *entry) must_check;
bool wire_next_resume_entry(struct wire_resume *resume, struct wire_resume_entry *entry) must_check;
