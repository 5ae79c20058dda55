/* The protocol between the broker and its handlers, on a Unix stream socket. This head is its
 * specification; handler means a process (pgsse-stream), uplink its socket to the broker, client
 * one stream that it serves.
 *
 * A frame is: u32 length of the body, u8 type, body. Integers are little-endian. A str is a u32
 * length and that many bytes. A position is: u64 durable, str marker (empty or 13 bytes), u64
 * since. A topic is a str: its key (topic_key.h). A list of topics is: u16 count, then count
 * topics. Wherever clients' topics are named, a topic may be a pattern: in each frame but EVENT and
 * REPLAY. Clients of form USER have no patterns.
 *
 *   handler -> broker
 *     HELLO        u32 magic, u16 version, u32 pid     first, once
 *     RESUME       u8 is_last, u8 position kind, position, u32 count, count times:
 *                  topic, u32 clients                  second; one or more, the last has is_last
 *     SUBSCRIBE    u64 token, u8 form, u8 position kind, position, str user, topics
 *                                                      (Kind ALL with a position: the client
 *                                                      asked for all, was accepted at this
 *                                                      position, and has received nothing since.)
 *     CREDIT       u64 token, u32 bytes                so many more bytes may be replayed to it
 *     UNSUBSCRIBE  u64 token, u8 form, topics          the topics that it has. token 0: a live
 *                                                      client. A live user stream keeps its token,
 *                                                      and its topic list is ignored: the broker
 *                                                      knows the granted topics
 *     ASK_POSITION u64 token                           a HEAD of a topic or of /events
 *     ASK_DOCUMENT u64 token, u8 kind, u32 limit,      limit: of full health, how many topics at
 *                  str tenant                          most; tenant: who asks. Health and stats
 *                                                      are about the whole machine for the tenant
 *                                                      "", and about no other's topics for any
 *                                                      other tenant. Short health is the same for
 *                                                      all
 *     REPORT       u32 serial, u32 open streams, u64 plain bytes, u64 gzip bytes (of streams that
 *                  are compressed, since the last report: before and after compression),
 *                  u8 is_last, u32 count, count times:
 *                  topic, u64 delivered, u64 dropped events, u64 dropped clients (each since
 *                  the last report), u64 pending events, u64 queued bytes, u32 streams (all now).
 *                  Each open stream is counted with one of its topics
 *
 *   broker -> handler
 *     WELCOME      u32 magic, u16 version, u32 pid     first, once
 *     ACCEPTED     u64 token, u8 has_backlog, position, topics
 *                  has_backlog: a REPLAY or REFRESH follows. Without a position, a REFRESH may
 *                  follow although this is 0. With patterns, this may be 1 and nothing follows.
 *                  topics: of the ones asked for, those that the client may have, in the same order
 *     REFUSED      u64 token, u16 status, str text     the client may have none of its topics, or
 *                                                      there is no table for its user stream
 *     REFRESH      u64 token, u8 is_durable, topic (or an empty str), position, u8 reason,
 *                  u64 dropped
 *                  token 0: for all live clients, or, if there is a topic, for those of the topic
 *                  and of patterns that match it; a pattern: for those that have that pattern;
 *                  is_durable: durable events may be missing, too. Without is_durable it is not
 *                  for user streams
 *     REPLAY       u64 token, and an EVENT's body: for this client alone
 *     SUBSCRIBED   u64 token, position                 from here on the client is live
 *     EVENT        u8 is_durable + 2 * is_text, position, topic, str publisher id, u32 id_at,
 *                  str body
 *     POSITION     u64 token, position                 answers ASK_POSITION when token is not 0
 *     DOCUMENT     u64 token, u16 status, str document    answers ASK_DOCUMENT
 *     RECHECK      str tenant, str user                the streams of that tenant's user (user "":
 *                                                      all user streams of all tenants) have to
 *                                                      subscribe again: rights may have changed
 *     ASK_REPORT   u32 serial                          REPORTs with this serial answer it; the last
 *                                                      of them has is_last
 *     GOODBYE      str reason                          then the broker closes the connection
 *
 * Form: TOPICS clients (the topics API and the events API) get every event of their topics. USER
 * clients are the user streams of the durable API. They get durable events only, have D alone as
 * their position, and get only topics that their user has subscribed to in the database.
 *
 * The life of a subscription: SUBSCRIBE, then ACCEPTED or REFUSED. After ACCEPTED come the events
 * after the client's position as REPLAYs, with a REFRESH at each place where the broker cannot
 * prove that nothing is missing. SUBSCRIBED says that the replay has reached the head: EVENT frames
 * serve the client from there on, and not before. Frames take effect in the order in which they
 * come, so a position never comes before the events that it includes. Tokens are never used again.
 * A frame for an unknown token is ignored, since its client may have gone.
 *
 * A replay runs on credit, WIRE_CREDIT_BYTES at first. Each REPLAY uses up the length of its body.
 * While some credit is left, one REPLAY of any size may be sent; what it uses too much is taken
 * from later CREDIT. So the bytes that wait for one client are bounded, and a client that does not
 * read delays no other.
 *
 * An uplink begins with RESUME: the position at the end of the last uplink (position kind NONE:
 * there was none), and the number of live clients on each topic. User streams are not among these:
 * they subscribe again, so that their users' rights are looked up again. The broker brings the
 * clients to the head with EVENT and REFRESH frames, as if the uplink had not been lost. Then it
 * sends a POSITION. Only after that does it tell this handler positions and breaks, and answer its
 * subscriptions.
 *
 * A handler asks for a document once for all of its clients that wait for it: an ASK_DOCUMENT
 * replaces an earlier one of its kind that is not answered yet. A document of full health has a
 * newline before each topic, and nowhere else, so that it can be cut to fewer topics than were
 * asked for.
 *
 * An EVENT is sent to a handler once, however many of its clients want it. Its body is built by
 * sse_event_body; its position is the event's own.
 *
 * Different versions in HELLO and WELCOME end the uplink: the broker sends WELCOME with its own
 * version, and GOODBYE. The handler ends its streams and exits, so that the web server starts a
 * handler of the other version. A frame that breaks these rules ends the uplink with a reason; no
 * other handler notices. */
#pragma once

#include "payload.h"
#include "position.h"
#include "sse.h"
#include "topic_key.h"

enum {
    WIRE_MAGIC = 0x73736770, /* "pgss" */
    WIRE_VERSION = 8,
    WIRE_HEADER_BYTES = 5,
    WIRE_REQUEST_BYTES_MAX = 64 * 1024,       /* a body from a handler */
    WIRE_ANSWER_BYTES_MAX = 16 * 1024 * 1024, /* a body from the broker */
    WIRE_CREDIT_BYTES = 64 * 1024,            /* of a replay, at its start */
    WIRE_HEALTH_LIMIT = 1000,                 /* topics, unless asked otherwise */
    WIRE_HEALTH_LIMIT_MAX = 65536,
};

/* The text after the last topic of a health document. */
#define WIRE_HEALTH_END "]}"

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_SUBSCRIBE,
    WIRE_UNSUBSCRIBE,
    WIRE_ASK_POSITION,
    WIRE_ASK_DOCUMENT,
    WIRE_REPORT,
    WIRE_RESUME,
    WIRE_CREDIT,
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

/* Which events a client gets, and how its positions are written. */
enum wire_form {
    WIRE_FORM_TOPICS, /* topics API and events API: D.M.S */
    WIRE_FORM_USER,   /* durable API (user streams): D, durable events only */
};
enum { WIRE_FORMS = WIRE_FORM_USER + 1 };

/* Slices and keys of decoded messages point into the frame. */

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
    struct names topics;
};

struct wire_resume {
    bool is_last;
    enum position_kind position_kind; /* NONE or KNOWN */
    struct position position;
    uint32_t count;
    struct slice entries; /* for wire_next_resume_entry */
};

struct wire_resume_entry {
    struct topic_key topic;
    uint32_t clients; /* at least 1 */
};

struct wire_credit {
    uint64_t token;
    uint32_t bytes;
};

struct wire_unsubscribe {
    uint64_t token;
    enum wire_form form;
    struct names topics;
};

/* Documents that the broker makes: broker/document.h says what is in them. */
enum wire_document_kind {
    WIRE_FULL_HEALTH,
    WIRE_SHORT_HEALTH,
    WIRE_USER_STREAMS, /* how many are open */
    WIRE_STREAM_STATS, /* of all streams */
};
enum { WIRE_DOCUMENT_KINDS = WIRE_STREAM_STATS + 1 };

struct wire_ask_document {
    uint64_t token; /* not 0 */
    enum wire_document_kind kind;
    uint32_t limit;      /* of FULL_HEALTH; else 0 */
    struct slice tenant; /* who asks */
};

struct wire_report_entry {
    struct topic_key topic;
    uint64_t delivered;
    uint64_t dropped_events;
    uint64_t dropped_clients;
    uint64_t pending_events;
    uint64_t queued_bytes;
    uint32_t streams;
};

struct wire_report {
    uint32_t serial;
    uint32_t streams; /* that are open */
    uint64_t plain_bytes;
    uint64_t gzip_bytes;
    bool is_last;
    uint32_t count;
    struct slice entries; /* for wire_next_report_entry */
};

struct wire_accepted {
    uint64_t token;
    bool has_backlog;
    struct position position;
    struct names topics;
};

struct wire_refused {
    uint64_t token;
    uint16_t status;
    struct slice text;
};

struct wire_refresh {
    uint64_t token;
    bool is_durable;
    struct topic_key topic;
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
    bool is_text; /* its data is a text; else JSON */
    struct position position;
    struct topic_key topic;
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

struct wire_recheck {
    struct slice tenant;
    struct slice user; /* empty: all users of all tenants */
};

/* --- frames ------------------------------------------------------------------------------ */

struct wire_frame {
    enum wire_type type; /* may be no member of the enum: the receiver has to check it */
    struct slice body;
};

/* The body of a frame that one of the encoders below made. */
struct slice wire_body(const struct payload *frame) must_check;

enum wire_next { WIRE_NEXT_FRAME, WIRE_NEXT_INCOMPLETE, WIRE_NEXT_TOO_LONG };

/* Takes the first complete frame off *input. */
enum wire_next wire_next(struct slice *input, size_t body_bytes_max,
                         struct wire_frame *frame) must_check;

/* The limit of full health, as a client writes it: a whole number. WIRE_HEALTH_LIMIT_MAX stands for
 * all that is larger. */
bool wire_parse_health_limit(struct slice text, uint32_t *limit) must_check;

/* Appends the health document with its first limit topics only. */
void wire_cut_health(struct slice document, uint32_t limit, struct buf *out);

/* --- encoding: a whole frame, with one reference that is the caller's --------------------- */

struct payload *wire_encode_hello(enum wire_type type, uint32_t pid) must_check;
struct payload *wire_encode_subscribe(const struct wire_subscribe *message) must_check;
struct payload *wire_encode_credit(const struct wire_credit *message) must_check;
struct payload *wire_encode_unsubscribe(const struct wire_unsubscribe *message) must_check;
struct payload *wire_encode_ask_position(uint64_t token) must_check;
struct payload *wire_encode_ask_document(const struct wire_ask_document *message) must_check;
struct payload *wire_encode_accepted(const struct wire_accepted *message) must_check;
struct payload *wire_encode_refused(const struct wire_refused *message) must_check;
struct payload *wire_encode_refresh(const struct wire_refresh *message) must_check;
/* type: WIRE_SUBSCRIBED or WIRE_POSITION */
struct payload *wire_encode_position(enum wire_type type,
                                     const struct wire_position *message) must_check;
struct payload *wire_encode_event(const struct wire_event *message) must_check;
struct payload *wire_encode_replay(const struct wire_replay *message) must_check;
struct payload *wire_encode_document(const struct wire_document *message) must_check;
struct payload *wire_encode_recheck(const struct wire_recheck *message) must_check;
struct payload *wire_encode_ask_report(uint32_t serial) must_check;
struct payload *wire_encode_goodbye(const char *reason) must_check;

/* A REPORT is built entry by entry: begin on an empty buf, add entries, then end. wire_report_add
 * returns false, and adds nothing, if the frame would exceed WIRE_REQUEST_BYTES_MAX. */
void wire_report_begin(struct buf *report, uint32_t serial, uint32_t streams);
void wire_report_set_gzip(struct buf *report, uint64_t plain_bytes, uint64_t gzip_bytes);
bool wire_report_add(struct buf *report, const struct wire_report_entry *entry) must_check;
struct payload *wire_report_end(struct buf *report, bool is_last) must_check;

/* A RESUME is built in the same way. */
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
bool wire_decode_ask_position(struct slice body, uint64_t *token) must_check;
bool wire_decode_ask_document(struct slice body, struct wire_ask_document *message) must_check;
bool wire_decode_report(struct slice body, struct wire_report *message) must_check;
bool wire_decode_accepted(struct slice body, struct wire_accepted *message) must_check;
bool wire_decode_refused(struct slice body, struct wire_refused *message) must_check;
bool wire_decode_refresh(struct slice body, struct wire_refresh *message) must_check;
bool wire_decode_position(struct slice body, struct wire_position *message) must_check;
bool wire_decode_event(struct slice body, struct wire_event *message) must_check;
bool wire_decode_replay(struct slice body, struct wire_replay *message) must_check;
bool wire_decode_document(struct slice body, struct wire_document *message) must_check;
bool wire_decode_recheck(struct slice body, struct wire_recheck *message) must_check;
bool wire_decode_ask_report(struct slice body, uint32_t *serial) must_check;
bool wire_decode_goodbye(struct slice body, struct slice *reason) must_check;

/* Takes the first entry off the report. False after the last entry, and if the entry breaks the
 * rules: then count is not 0. */
bool wire_next_report_entry(struct wire_report *report, struct wire_report_entry *entry) must_check;
bool wire_next_resume_entry(struct wire_resume *resume, struct wire_resume_entry *entry) must_check;
