/* Where a program's configuration comes from.
 *
 * Sources, the later one wins:
 *   1. the table's default
 *   2. a file: --config, else PGSSE_CONFIG, else pgsse.conf beside the binary, else
 *      /etc/pgsse/pgsse.conf; lines of "key = value", '#' starts a comment
 *   3. the environment: PGSSE_KEY, and DATABASE_URL for database_url
 *   4. the command line: --key=value or --key value, '-' for '_'; secret values are wiped from it
 *
 * All programs read the same file: each accepts and checks the keys of the others, too. The program
 * ends, with one line that says where, on an unknown key, a key that is twice in the file, a bad
 * value, or two values that contradict each other (config_pairs.h). Values of secret keys are never
 * shown. Of a text in the place of a key's name only the beginning is shown
 * (config_name_length). */
#pragma once

#include "config.h"

/* Loads the configuration for one program and answers --help, --version and --print-config, which
 * end the program with status 0. Every error ends it with CONFIG_EXIT_STATUS. On return the log is
 * set up, and database_url has the content of the file database_url_file. */
void config_load(struct config *config, enum config_program program, int argc, char **argv);

enum { CONFIG_REASON_BYTES = 512 };

/* Loads it once more for a program that goes on: from the same sources as *old was, with the same
 * command line. *fresh is zero-initialised, and is released by the caller in both cases. False,
 * with *reason, if a source has an error. The log stays as it is. */
bool config_load_again(struct config *fresh, const struct config *old, enum config_program program,
                       char reason[CONFIG_REASON_BYTES]) must_check;

/* Releases what config_load keeps of the command line, and the configuration. */
void config_unload(struct config *config);

/* --- for its test ------------------------------------------------------------------------- */

/* Applies a whole file's text. On failure *line is the number of the line at fault, from 1. */
bool config_apply_file(struct config *config, struct slice text, int *line,
                       const char **reason) must_check;
