/* The names of the durable API: channels, which are topics, and users. Pure. */
#pragma once

#include "buf.h"

#define NAMES_CHANNEL_TEXT "must be 1 to 255 bytes of UTF-8, without control characters and commas"
#define NAMES_PATTERN_TEXT "must not end in *, as patterns do"
#define NAMES_USER_TEXT \
    "must be a whole number, or a string of 1 to 255 bytes of UTF-8 without control characters"

/* A topic without comma: lists of channels have commas between them. */
bool names_is_channel(struct slice name) must_check;

/* 1 to 255 bytes of UTF-8 without control characters. */
bool names_is_user(struct slice name) must_check;

/* True if it is spelled as JSON spells a whole number: digits without needless zeros, '-' before
 * them. The user 1 and the user "1" are the same. */
bool names_is_number(struct slice name) must_check;
