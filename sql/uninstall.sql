-- Removes the schema pgsse, with all events, subscriptions, and the triggers that call
-- pgsse.publish_row. If something else depends on it (a view over pgsse.events, a table of yours in
-- the schema), an error says what, and nothing is removed.
--
--     psql -f sql/uninstall.sql "$DATABASE_URL"

\set ON_ERROR_STOP on
\set pgsse_quiet :QUIET
\set QUIET on

BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;

SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

DO 'BEGIN PERFORM pg_advisory_xact_lock(hashtext(''pgsse install'')); END';

DO $$
DECLARE
    command text;
BEGIN
    IF to_regclass('pgsse.publishing') IS NOT NULL THEN
        LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE;
    END IF;
    IF to_regclass('pgsse.seen') IS NOT NULL THEN
        LOCK TABLE pgsse.seen IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    FOR command IN
        SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger
        WHERE tgparentid = 0 AND tgfoid IN (
            to_regprocedure('pgsse.publish_row()'), to_regprocedure('pgsse._guard()'),
            to_regprocedure('pgsse._recheck()'))
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;

DROP VIEW IF EXISTS pgsse.topics, pgsse.recent, pgsse.status;

DO $$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT format('DROP FUNCTION %s', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = to_regnamespace('pgsse') AND proname IN (
            'version', 'head', '_guard', '_open', '_fail', '_is_name', '_is_tenant', '_is_pattern',
            '_is_deeper', '_problem',
            '_begin', '_leap', '_is_path_name', '_notice_topic', '_bytes', 'publish',
            'publish_many', 'channel', 'notify', 'publish_row', 'history', 'page', 'prune',
            '_check_subscription', '_recheck', 'subscribe', 'unsubscribe', 'subscriptions',
            'subscribed')
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;

DROP TABLE IF EXISTS pgsse.events, pgsse.publishing, pgsse.state, pgsse.leaps, pgsse.floors, pgsse.seen,
    pgsse.subscriptions;
DROP SEQUENCE IF EXISTS pgsse.event_id;
DROP SCHEMA IF EXISTS pgsse;

COMMIT;

\set QUIET :pgsse_quiet
\if :pgsse_quiet
\else
    \echo 'pgsse: the schema is gone'
\endif
