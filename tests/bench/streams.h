#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "base.h"
#include "frames.h"

/* A pool of open event streams, all of one topic unless they ask for something else, read by one epoll loop in the caller's thread. It
 * takes its CPU from the same machine as the programs that it measures, so it is frugal: one large
 * read per ready stream, no allocation and no copy per event.
 *
 * Nothing is read while none of the functions here runs. */
struct streams;

/* Borrows the address. The caller owns the pool. */
struct streams *streams_create(const struct address *address, const char *topic, size_t capacity);

/* Streams opened from now on ask for that path and query (copied); is_numbered: with the stream's
 * number, from 0 on, at its end. */
void streams_ask(struct streams *streams, const char *target, bool is_numbered);

/* Closes what is open. Leaves NULL. */
void streams_destroy(struct streams **streams);

/* Streams opened from now on come back with that position (copied): they send it as Last-Event-ID,
 * and are to get what was published since. Once a pool. */
void streams_resume(struct streams *streams, const char *position);

/* Streams opened from now on take gzip; from now on may begin with any event. */
void streams_accept_gzip(struct streams *streams);
void streams_begin_late(struct streams *streams);

/* The body of the first stream is appended there, decoded, from now on. Borrowed. */
void streams_record(struct streams *streams, struct buf *record);

/* The number of the first event that the stream got; i: in the order in which they were opened. */
uint64_t streams_first(const struct streams *streams, size_t i);

/* Opens more, until `count` are open, not more than a few hundred at a time under way. False when
 * one was refused or lost, or not all had their greeting within timeout_ms. */
must_check bool streams_open(struct streams *streams, size_t count, int64_t timeout_ms);

/* From the first connect of streams_open() to the last greeting. */
int64_t streams_opening_ns(const struct streams *streams);

/* Says which event number is waited for next; to be called before it is published. */
void streams_expect(struct streams *streams, uint64_t number);

/* Reads until every stream has reached the expected number. False: a stream was lost, or they did
 * not within timeout_ms. */
must_check bool streams_await(struct streams *streams, int64_t timeout_ms);

/* When the last stream reached the expected number. */
int64_t streams_reached_ns(const struct streams *streams);

/* Reads for that long, whatever comes. */
void streams_run(struct streams *streams, int64_t duration_ms);

/* The pool's own; to be read, and delays_us to be set. */
struct frames_tally *streams_tally(struct streams *streams);

/* NULL when all went well so far: each event once, in order, to every stream. Else one line that
 * says what was wrong, good until the next call. */
const char *streams_fault(struct streams *streams);
