-- pgsse: the schema for durable events. PostgreSQL 13 or later, a database in UTF8 or SQL_ASCII.
--
--     psql -f sql/pgsse.sql "$DATABASE_URL"
--
-- It may be run again at any time, also while events are published, and over an older state of
-- itself: what is missing is made, functions and views are replaced, what is kept is kept. All of
-- it happens in one transaction, or nothing. uninstall.sql takes it away.
--
--     SELECT pgsse.publish('orders', '{"id":7}', 'paid');               -- durable; returns its id
--     SELECT * FROM pgsse.publish_many('[{"topic":"a","data":1},{"topic":"b","data":2}]');
--     SELECT pgsse.notify('orders', '{"id":7}', 'paid');     -- ephemeral: NOTIFY, no row, if it fits
--     CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON orders
--         FOR EACH ROW EXECUTE FUNCTION pgsse.publish_row('orders', 'id', 'state');
--     SELECT * FROM pgsse.history('orders', after_id => 41);
--     SELECT * FROM pgsse.page(41, topics => '{orders,stock}');      -- for programs that follow it
--     SELECT pgsse.prune(age => '7 days', keep => 100000);
--     SELECT * FROM pgsse.status; TABLE pgsse.topics; TABLE pgsse.recent;
--
-- The guarantee: ids are in commit order. Whoever has read up to id D finds all that he has not
-- seen with "id > D ORDER BY id", and nothing appears behind him. For that every publisher takes
-- one lock before it draws its id and holds it until its transaction ends. So publish late in a
-- transaction, or from a CONSTRAINT TRIGGER ... DEFERRABLE INITIALLY DEFERRED, which runs at
-- COMMIT. Ids have gaps, where transactions were rolled back.
--
-- Who may do what:
--   publish, publish_many, notify, publish_row   everybody who may connect, as with NOTIFY itself.
--       To change that:  REVOKE USAGE ON SCHEMA pgsse FROM PUBLIC, and GRANT it to whom you like.
--   prune          its owner, and whom you GRANT EXECUTE.
--   history, page, subscribe, unsubscribe, subscriptions, head, the views: whoever has the rights
--       on the tables: the owner, until you GRANT them.
-- publish and prune run with their owner's rights (SECURITY DEFINER, a fixed search_path, no
-- dynamic SQL in them): INSERT is nobody's, not even the owner's, since a row beside the functions
-- would have an id out of order. publish_row does not: it turns rows into JSON, which runs
-- functions of whoever made their types.

\set ON_ERROR_STOP on
\set pgsse_quiet :QUIET
\set QUIET on

BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;

SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL check_function_bodies = on;
SET LOCAL default_tablespace = '';
SET LOCAL default_table_access_method = heap;

-- One installation at a time.
DO 'BEGIN PERFORM pg_advisory_xact_lock(hashtext(''pgsse install'')); END';

DO $$
DECLARE
    owner name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgsse');
    installed integer;
BEGIN
    IF current_setting('server_version_num')::integer < 130000 THEN
        RAISE EXCEPTION 'pgsse needs PostgreSQL 13 or later, this is %',
            current_setting('server_version');
    END IF;
    IF getdatabaseencoding() NOT IN ('UTF8', 'SQL_ASCII') THEN
        RAISE EXCEPTION 'pgsse needs a database in UTF8 or SQL_ASCII, this one is in %',
            getdatabaseencoding();
    END IF;
    IF owner IS NULL THEN
        CREATE SCHEMA pgsse;
        GRANT USAGE ON SCHEMA pgsse TO PUBLIC;
        RETURN;
    END IF;
    IF owner <> current_user THEN
        RAISE EXCEPTION 'the schema pgsse belongs to the role %: install as that role', owner
            USING HINT = format('SET ROLE %I;', owner);
    END IF;
    IF to_regprocedure('pgsse.version()') IS NOT NULL THEN
        EXECUTE 'SELECT pgsse.version()' INTO installed;
        IF installed > 1 THEN
            RAISE EXCEPTION 'version % of the schema pgsse is installed, this script has version 1',
                installed;
        END IF;
    END IF;
    -- Who publishes or prunes just now ends first, others wait: so nobody deadlocks with us.
    IF to_regclass('pgsse.publishing') IS NOT NULL THEN
        LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE;
    END IF;
    IF to_regclass('pgsse.seen') IS NOT NULL THEN
        LOCK TABLE pgsse.seen IN SHARE ROW EXCLUSIVE MODE;
    END IF;
END
$$;

-- What programs ask for. It grows with every change that they would notice.
CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1';

-- ---- tables ------------------------------------------------------------------------------------

-- Drawn under the lock and nowhere else. Id 1 is never used: it is the place before all events.
CREATE SEQUENCE IF NOT EXISTS pgsse.event_id AS bigint START 2 CACHE 1;

CREATE TABLE IF NOT EXISTS pgsse.events (
    id bigint PRIMARY KEY CHECK (id >= 2),     -- no default: that would be drawn before the lock
    topic text COLLATE "C" NOT NULL,
    type text NOT NULL,
    data json NOT NULL,                        -- json keeps the bytes, jsonb would not
    publisher_id text,
    retry integer,
    comment text,
    is_text boolean NOT NULL DEFAULT false,    -- a string in data is sent as its text
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    bytes integer NOT NULL                     -- octets of data and comment; see _bytes
);
CREATE INDEX IF NOT EXISTS events_topic_id ON pgsse.events (topic, id);

-- The lock: empty, nobody but the owner can take it, and pg_locks tells who waits for it.
CREATE TABLE IF NOT EXISTS pgsse.publishing ();

-- One row. A timeline that is not the server's makes the next id leap ahead; see _begin.
CREATE TABLE IF NOT EXISTS pgsse.state (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    timeline text                              -- 8 hexadecimal digits, as in names of WAL files
);

-- The highest id of each topic that was removed: who stands before it has missed something.
CREATE TABLE IF NOT EXISTS pgsse.floors (
    topic text COLLATE "C" PRIMARY KEY,
    id bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS floors_id ON pgsse.floors (id);

-- At that time a prune saw all events up to id. The age of an event counts from the first such
-- time: created_at may be long before its transaction was committed.
CREATE TABLE IF NOT EXISTS pgsse.seen (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS pgsse.subscriptions (
    user_id text COLLATE "C",
    channel text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, channel)
);

-- The place of the newest event: none that is committed later gets this id or a smaller one.
CREATE OR REPLACE FUNCTION pgsse.head() RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT greatest((SELECT max(id) FROM pgsse.events), (SELECT max(id) FROM pgsse.floors), 1)
$$;

INSERT INTO pgsse.state (timeline)
VALUES (left(pg_walfile_name(pg_current_wal_lsn()), 8)) ON CONFLICT DO NOTHING;

-- A sequence that was lost starts behind what the tables know.
DO $$
BEGIN
    IF (SELECT last_value FROM pgsse.event_id) < pgsse.head() THEN
        PERFORM setval('pgsse.event_id', pgsse.head());
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgsse._guard() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING
        MESSAGE = format('pgsse: no %s on pgsse.events', TG_OP),
        HINT = 'Only pgsse.publish and publish_many write it, and pgsse.prune removes from it.';
END
$$;

-- The key to that guard, which is no protection but against mistakes: rights are what protects.
CREATE OR REPLACE FUNCTION pgsse._open(is_open boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('pgsse.writer', CASE WHEN is_open THEN 'on' ELSE '' END, true);
END
$$;

-- What a page's budget counts, kept beside the event so that nobody has to fetch it for that.
-- convert_to checks, as in _is_name.
CREATE OR REPLACE FUNCTION pgsse._bytes(data json, comment text) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT octet_length(convert_to(data::text, 'UTF8'))
         + coalesce(octet_length(convert_to(comment, 'UTF8')), 0)
$$;

-- An older state of the table gets the column. What is in order is not touched: that would take
-- locks that readers hold.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'pgsse.events'::regclass AND attname = 'bytes') THEN
        ALTER TABLE pgsse.events ADD COLUMN bytes integer;
        PERFORM pgsse._open(true);
        UPDATE pgsse.events SET bytes = pgsse._bytes(data, comment);
        PERFORM pgsse._open(false);
        ALTER TABLE pgsse.events ALTER COLUMN bytes SET NOT NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = 'pgsse.events'::regclass AND tgname = 'guard') THEN
        CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgsse.events
            FOR EACH STATEMENT WHEN (current_setting('pgsse.writer', true) IS DISTINCT FROM 'on')
            EXECUTE FUNCTION pgsse._guard();
    END IF;
END
$$;

-- ---- what is no event --------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION pgsse._fail(problem text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE invalid_parameter_value USING MESSAGE = 'pgsse: ' || problem;
END
$$;

-- 1 to 255 bytes of UTF-8 without control characters: U+0000 to U+001F, U+007F to U+009F.
-- convert_to checks the bytes in a database that is in SQL_ASCII.
CREATE OR REPLACE FUNCTION pgsse._is_name(name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN octet_length(name) BETWEEN 1 AND 255
        THEN encode(convert_to(name, 'UTF8'), 'hex') !~ '^(?:..)*(?:[01].|7f|c2[89].)'
        ELSE false END
$$;

-- Whether arrays and objects nest deeper than that. What has fewer brackets cannot.
CREATE OR REPLACE FUNCTION pgsse._is_deeper(data text, depth integer) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    brackets text := data;
BEGIN
    IF octet_length(data) <= 2 * depth OR
       length(data) - length(translate(data, '[{', '')) <= depth THEN
        RETURN false;
    END IF;
    brackets := regexp_replace(brackets COLLATE "C", E'"(?:[^"\\\\]|\\\\.)*"', '', 'g');
    brackets := translate(regexp_replace(brackets, '[^][{}]+', '', 'g'), '{}', '[]');
    FOR i IN 1 .. depth LOOP
        brackets := replace(brackets, '[]', '');
        EXIT WHEN brackets = '';
    END LOOP;
    RETURN brackets <> '';
END
$$;

-- Why that is no event; NULL when it is one.
CREATE OR REPLACE FUNCTION pgsse._problem(topic text, data json, event text, id text,
                                          retry integer, comment text, depth integer)
RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN topic IS NULL OR NOT pgsse._is_name(topic)
            THEN 'topic must have 1 to 255 bytes and no control characters'
        WHEN data IS NULL
            THEN 'data is missing (SQL''s NULL is no data, JSON''s null is)'
        WHEN event IS NOT NULL AND event COLLATE "C" <> '' AND NOT pgsse._is_name(event)
            THEN 'event must have at most 255 bytes and no control characters'
        WHEN event COLLATE "C" IN ('refresh', 'close', 'error', 'open')
            THEN 'event: refresh, close, error and open are the stream''s own'
        WHEN octet_length(id) NOT BETWEEN 1 AND 64 OR id COLLATE "C" ~ '[^A-Za-z0-9_.-]'
            THEN 'id must be 1 to 64 of [A-Za-z0-9_.-]'
        WHEN retry NOT BETWEEN 0 AND 3600000
            THEN 'retry must be from 0 to 3600000'
        WHEN pgsse._bytes(data, comment) > 1048576
            THEN 'data and comment must have at most 1048576 bytes'
        WHEN pgsse._is_deeper(data::text, depth)
            THEN format('data must be nested at most %s deep', depth)
    END;
END
$$;

-- ---- publishing --------------------------------------------------------------------------------

-- Takes the turn: from here to the end of the transaction nobody else draws an id.
--
-- A server that takes over may not have got the last ids that its predecessor gave out; clients
-- may have. So on a new timeline the ids leap over all that can have been used. (After restoring
-- an old dump do it by hand: UPDATE pgsse.state SET timeline = NULL.)
--
-- An event that was reported and read must survive a crash: so "off" becomes "on".
CREATE OR REPLACE FUNCTION pgsse._begin() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    here text;
BEGIN
    LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE;
    here := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    IF here IS DISTINCT FROM (SELECT s.timeline FROM pgsse.state s) THEN
        PERFORM setval('pgsse.event_id', greatest(last_value, pgsse.head()) + 1000000000)
        FROM pgsse.event_id;
        UPDATE pgsse.state SET timeline = here;
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- A hint that there is something to read; always the same, so a transaction sends one.
    PERFORM pg_notify('forge_events', '{"hint":true}');
END
$$;

-- Publishes one event and returns its id. id, retry and comment are the publisher's own; is_text
-- has a string sent as its text and not as JSON.
CREATE OR REPLACE FUNCTION pgsse.publish(topic text, data json, event text DEFAULT 'message',
                                         id text DEFAULT NULL, retry integer DEFAULT NULL,
                                         comment text DEFAULT NULL, is_text boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text := pgsse._problem(topic, data, event, id, retry, comment, 128);
    drawn bigint;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    PERFORM pgsse._begin();
    PERFORM pgsse._open(true);
    INSERT INTO pgsse.events (id, topic, type, data, publisher_id, retry, comment, is_text, bytes)
    VALUES (nextval('pgsse.event_id'), topic, coalesce(nullif(event COLLATE "C", ''), 'message'),
            data, id, retry, comment, coalesce(is_text, false), pgsse._bytes(data, comment))
    RETURNING events.id INTO drawn;
    PERFORM pgsse._open(false);
    RETURN drawn;
END
$$;

CREATE OR REPLACE FUNCTION pgsse.publish(topic text, data jsonb, event text DEFAULT 'message',
                                         id text DEFAULT NULL, retry integer DEFAULT NULL,
                                         comment text DEFAULT NULL, is_text boolean DEFAULT false)
RETURNS bigint
LANGUAGE sql AS 'SELECT pgsse.publish($1, $2::pg_catalog.json, $3, $4, $5, $6, $7)';

-- The text is JSON: what a plain literal in a call becomes. A string: to_json('hello'::text).
CREATE OR REPLACE FUNCTION pgsse.publish(topic text, data text, event text DEFAULT 'message',
                                         id text DEFAULT NULL, retry integer DEFAULT NULL,
                                         comment text DEFAULT NULL, is_text boolean DEFAULT false)
RETURNS bigint
LANGUAGE sql AS 'SELECT pgsse.publish($1, $2::pg_catalog.json, $3, $4, $5, $6, $7)';

-- Many events in one go, for programs; their ids in the same order. All arrays that are given have
-- the same length.
CREATE OR REPLACE FUNCTION pgsse.publish_many(topics text[], datas json[],
                                              events text[] DEFAULT NULL, ids text[] DEFAULT NULL,
                                              retries integer[] DEFAULT NULL,
                                              comments text[] DEFAULT NULL,
                                              are_texts boolean[] DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    many integer := cardinality(topics);
    problem text;
BEGIN
    IF topics IS NULL OR datas IS NULL OR cardinality(datas) <> many OR
       cardinality(events) <> many OR cardinality(ids) <> many OR cardinality(retries) <> many OR
       cardinality(comments) <> many OR cardinality(are_texts) <> many THEN
        PERFORM pgsse._fail('the arrays must have the same length');
    ELSIF many = 0 THEN
        RETURN;
    END IF;
    SELECT format('event %s: %s', n, p) INTO problem FROM (
        SELECT n, pgsse._problem(topic, data, event, id, retry, comment, 128) AS p
        FROM unnest(topics, datas, events, ids, retries, comments)
             WITH ORDINALITY AS e(topic, data, event, id, retry, comment, n)
    ) AS checked WHERE p IS NOT NULL ORDER BY n LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    PERFORM pgsse._begin();
    PERFORM pgsse._open(true);
    RETURN QUERY
    INSERT INTO pgsse.events (id, topic, type, data, publisher_id, retry, comment, is_text, bytes)
    SELECT nextval('pgsse.event_id'), e.topic,
           coalesce(nullif(e.event COLLATE "C", ''), 'message'), e.data, e.id, e.retry, e.comment,
           coalesce(e.is_text, false), pgsse._bytes(e.data, e.comment)
    FROM (SELECT * FROM unnest(topics, datas, events, ids, retries, comments, are_texts)
                   WITH ORDINALITY AS u(topic, data, event, id, retry, comment, is_text, n)
          ORDER BY n OFFSET 0) AS e
    RETURNING events.id;
    PERFORM pgsse._open(false);
END
$$;

-- The same from an array of objects: "topic", "data", and optionally "event", "id", "retry",
-- "comment", "text", as in a notification. Other keys are ignored, null is absent (but for data).
-- Postgres cannot take apart an object with \u0000 or half a surrogate pair in it: that is an
-- error; publish and the arrays above take it.
CREATE OR REPLACE FUNCTION pgsse.publish_many(events json) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text;
BEGIN
    IF events IS NULL OR json_typeof(events) <> 'array' THEN
        PERFORM pgsse._fail('publish_many takes a JSON array of objects');
    END IF;
    SELECT format('event %s: %s', n, p) INTO problem FROM (
        SELECT n, CASE
            WHEN json_typeof(e) <> 'object' THEN 'not an object'
            WHEN json_typeof(e -> 'topic') IS DISTINCT FROM 'string' THEN 'topic must be a string'
            WHEN json_typeof(e -> 'event') NOT IN ('string', 'null') THEN 'event must be a string'
            WHEN json_typeof(e -> 'id') NOT IN ('string', 'null') THEN 'id must be a string'
            WHEN json_typeof(e -> 'comment') NOT IN ('string', 'null')
                THEN 'comment must be a string'
            WHEN json_typeof(e -> 'retry') <> 'null' AND
                 (json_typeof(e -> 'retry') <> 'number' OR e ->> 'retry' !~ '^[0-9]{1,7}$')
                THEN 'retry must be a whole number from 0 to 3600000'
            WHEN json_typeof(e -> 'text') NOT IN ('boolean', 'null')
                THEN 'text must be true or false'
            WHEN json_typeof(e -> 'tenant') <> 'null' THEN 'tenant is not served'
        END AS p
        FROM json_array_elements(events) WITH ORDINALITY AS a(e, n)
    ) AS checked WHERE p IS NOT NULL ORDER BY n LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    RETURN QUERY
    SELECT pgsse.publish_many(
        coalesce(array_agg(e ->> 'topic' ORDER BY n), '{}'),
        coalesce(array_agg(e -> 'data' ORDER BY n), '{}'), array_agg(e ->> 'event' ORDER BY n),
        array_agg(e ->> 'id' ORDER BY n), array_agg((e ->> 'retry')::integer ORDER BY n),
        array_agg(e ->> 'comment' ORDER BY n), array_agg((e ->> 'text')::boolean ORDER BY n))
    FROM json_array_elements(events) WITH ORDINALITY AS a(e, n);
END
$$;

-- ---- ephemeral events --------------------------------------------------------------------------

-- The channel that carries a topic's notifications: FNV-1a-32 of its name in ASCII lower case,
-- modulo 8. The broker hears a topic on each of the eight.
CREATE OR REPLACE FUNCTION pgsse.channel(topic text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name bytea := convert_to(translate(topic, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
                                       'abcdefghijklmnopqrstuvwxyz'), 'UTF8');
    hash bigint := 2166136261;
BEGIN
    FOR i IN 0 .. octet_length(name) - 1 LOOP
        hash := ((hash # get_byte(name, i)) * 16777619) & 4294967295;
    END LOOP;
    RETURN 'topic_broadcast_' || hash % 8;
END
$$;

-- NOTIFY with all that belongs to it: who is connected gets the event, and nothing is stored. The
-- nonce keeps equal events of one transaction apart, which Postgres would make one. What is too
-- large for that (7,999 bytes with the envelope) is published as a durable event.
CREATE OR REPLACE FUNCTION pgsse.notify(topic text, data json, event text DEFAULT 'message',
                                        id text DEFAULT NULL, retry integer DEFAULT NULL,
                                        comment text DEFAULT NULL, is_text boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The envelope is one level more.
    problem text := pgsse._problem(topic, data, event, id, retry, comment, 127);
    nonce text := encode(substr(uuid_send(gen_random_uuid()), 1, 8), 'hex');
    payload text;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    payload := concat('{"topic":', to_json(topic), ',"data":', data,
        ',"event":' || to_json(nullif(nullif(event COLLATE "C", ''), 'message')),
        ',"id":' || to_json(id), ',"retry":' || retry, ',"comment":' || to_json(comment),
        CASE WHEN is_text THEN ',"text":true' END, ',"nonce":"', nonce, '"}');
    IF octet_length(payload) > 7999 THEN
        PERFORM pgsse.publish(topic, data, event, id, retry, comment, is_text);
    ELSE
        PERFORM pg_notify(pgsse.channel(topic), payload);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgsse.notify(topic text, data jsonb, event text DEFAULT 'message',
                                        id text DEFAULT NULL, retry integer DEFAULT NULL,
                                        comment text DEFAULT NULL, is_text boolean DEFAULT false)
RETURNS void
LANGUAGE sql AS 'SELECT pgsse.notify($1, $2::pg_catalog.json, $3, $4, $5, $6, $7)';

CREATE OR REPLACE FUNCTION pgsse.notify(topic text, data text, event text DEFAULT 'message',
                                        id text DEFAULT NULL, retry integer DEFAULT NULL,
                                        comment text DEFAULT NULL, is_text boolean DEFAULT false)
RETURNS void
LANGUAGE sql AS 'SELECT pgsse.notify($1, $2::pg_catalog.json, $3, $4, $5, $6, $7)';

-- ---- rows of any table -------------------------------------------------------------------------

-- CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ON any_table FOR EACH ROW
--     EXECUTE FUNCTION pgsse.publish_row('topic' [, 'column', ...]);
-- publishes {"operation":"UPDATE","schema":"public","table":"t","old":{...},"new":{...}} for each
-- row, with all columns or those; old and new are null where there is none. Also AFTER TRUNCATE FOR
-- EACH STATEMENT. UPDATE OF and WHEN in the trigger choose which changes it sees.
CREATE OR REPLACE FUNCTION pgsse.publish_row() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_row json := 'null';
    new_row json := 'null';
    -- NULL without chosen columns. (Not by taking the JSON of the whole row apart: Postgres cannot
    -- do that to a \u0000 in it.)
    chosen text := (SELECT 'SELECT row_to_json(r) FROM (SELECT '
                     || string_agg(format('($1).%I', c), ', ' ORDER BY n) || ') AS r'
                     FROM unnest(TG_ARGV[1:]) WITH ORDINALITY AS u(c, n));
BEGIN
    IF TG_NARGS = 0 THEN
        PERFORM pgsse._fail('publish_row needs a topic: publish_row(''topic'')');
    ELSIF TG_WHEN <> 'AFTER' OR (TG_LEVEL <> 'ROW' AND TG_OP <> 'TRUNCATE') THEN
        PERFORM pgsse._fail('publish_row belongs into a trigger AFTER ... FOR EACH ROW');
    END IF;
    IF chosen IS NOT NULL THEN
        IF TG_OP IN ('UPDATE', 'DELETE') THEN
            EXECUTE chosen INTO old_row USING OLD;
        END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN
            EXECUTE chosen INTO new_row USING NEW;
        END IF;
    ELSE
        IF TG_OP IN ('UPDATE', 'DELETE') THEN
            old_row := row_to_json(OLD);
        END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN
            new_row := row_to_json(NEW);
        END IF;
    END IF;
    PERFORM pgsse.publish(TG_ARGV[0], concat('{"operation":"', TG_OP,
        '","schema":', to_json(TG_TABLE_SCHEMA::text), ',"table":', to_json(TG_TABLE_NAME::text),
        ',"old":', old_row, ',"new":', new_row, '}')::json);
    RETURN NULL;
END
$$;

-- ---- reading and removing ----------------------------------------------------------------------

-- Plans are kept while the tables grow, so those of history and page may not depend on what is
-- known about them: hence their settings. A topic's rows are found by comparing pairs, since
-- nothing but the index on (topic, id) can do that: the primary key would have to be walked
-- through the rows of all topics.

-- A topic's events behind after_id, oldest first; at most 500.
CREATE OR REPLACE FUNCTION pgsse.history(topic text, after_id bigint DEFAULT 0,
                                         max_rows integer DEFAULT 50)
RETURNS SETOF pgsse.events
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0
SET jit = off AS $$
DECLARE
    name text COLLATE "C" := topic;
BEGIN
    IF topic IS NULL OR NOT pgsse._is_name(topic) THEN
        PERFORM pgsse._fail('topic must have 1 to 255 bytes and no control characters');
    ELSIF coalesce(after_id, -1) < 0 THEN
        PERFORM pgsse._fail('after_id must be 0 or more');
    ELSIF coalesce(max_rows, 0) < 1 THEN
        PERFORM pgsse._fail('max_rows must be 1 or more');
    END IF;
    RETURN QUERY
    SELECT e.* FROM pgsse.events e
    WHERE (e.topic, e.id) > (name, after_id) AND (e.topic, e.id) <= (name, 9223372036854775807)
    ORDER BY e.topic, e.id LIMIT least(max_rows, 500);
END
$$;

-- For programs: what is behind after_id, up to up_to (NULL: to the end), of those topics (NULL: of
-- all; '{}': of none), in one snapshot. First, with is_floor, the floors behind after_id, also
-- those behind up_to: events of that topic up to that id were removed, so who stands at after_id
-- may have missed some, and has to be told before it goes on: it will not be seen again behind the
-- id of one of them. (Of all topics, if there are more than max_rows: one, the highest, whose topic
-- is NULL.) Then events, ordered by id.
--
-- A page ends after max_rows events or max_bytes of data and comments, not before one event, and
-- sooner where there are many topics; has_more is true on all of its events if it ended so. The
-- next one is read behind the id of its last event.
--
-- Of each topic only some rows are looked at, lest a page of 64 full ones costs 64 pages; is_beyond
-- marks the first that is too many.
CREATE OR REPLACE FUNCTION pgsse.page(after_id bigint, up_to bigint DEFAULT NULL,
                                      topics text[] DEFAULT NULL, max_rows integer DEFAULT 1000,
                                      max_bytes bigint DEFAULT 4194304)
RETURNS TABLE (id bigint, topic text, is_floor boolean, type text, data json, publisher_id text,
               retry integer, comment text, is_text boolean, has_more boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0
SET jit = off AS $$
DECLARE
    last_id bigint := coalesce(up_to, 9223372036854775807);
    each bigint := least(max_rows, greatest(100, 4 * max_rows::bigint
                                                / nullif(cardinality(topics), 0)));
BEGIN
    IF coalesce(after_id, -1) < 0 OR up_to < 0 THEN
        PERFORM pgsse._fail('after_id and up_to must be 0 or more');
    ELSIF coalesce(max_rows, 0) < 1 OR coalesce(max_bytes, 0) < 1 THEN
        PERFORM pgsse._fail('max_rows and max_bytes must be 1 or more');
    END IF;
    RETURN QUERY
    WITH wanted AS (
        SELECT DISTINCT t COLLATE "C" AS topic FROM unnest(topics) AS t WHERE t IS NOT NULL
    ), found AS (
        (SELECT f.id, f.topic
         FROM pgsse.floors f WHERE topics IS NULL AND f.id > after_id
         ORDER BY f.id LIMIT max_rows::bigint + 1)
        UNION ALL
        SELECT f.id, w.topic
        FROM wanted w CROSS JOIN LATERAL (
            SELECT f.id FROM pgsse.floors f WHERE f.topic = w.topic OFFSET 0) AS f
        WHERE f.id > after_id
    ), counted AS (
        SELECT f.*, topics IS NULL AND count(*) OVER () > max_rows AS are_too_many FROM found f
    )
    SELECT c.id, c.topic, true, NULL::text, NULL::json, NULL::text, NULL::integer, NULL::text,
           NULL::boolean, false
    FROM counted c WHERE NOT c.are_too_many
    UNION ALL
    SELECT (SELECT max(f.id) FROM pgsse.floors f), NULL, true, NULL, NULL, NULL, NULL, NULL, NULL,
           false
    WHERE (SELECT bool_or(c.are_too_many) FROM counted c);

    RETURN QUERY
    WITH wanted AS (
        SELECT DISTINCT t COLLATE "C" AS topic FROM unnest(topics) AS t WHERE t IS NOT NULL
    ), found AS (
        (SELECT e.id, e.topic, e.bytes, false AS is_beyond
         FROM pgsse.events e WHERE topics IS NULL AND e.id > after_id AND e.id <= last_id
         ORDER BY e.id LIMIT max_rows::bigint + 1)
        UNION ALL
        SELECT e.id, w.topic, e.bytes, e.n > each
        FROM wanted w CROSS JOIN LATERAL (
            SELECT e.id, e.bytes, row_number() OVER (ORDER BY e.topic, e.id) AS n
            FROM pgsse.events e
            WHERE (e.topic, e.id) > (w.topic, after_id) AND (e.topic, e.id) <= (w.topic, last_id)
            ORDER BY e.topic, e.id LIMIT each + 1) AS e
    ), summed AS (
        SELECT f.*, count(*) OVER s AS n, sum(f.bytes) OVER s AS bytes_so_far,
               bool_or(f.is_beyond) OVER s AS is_cut, count(*) OVER () AS all_rows
        FROM found f WINDOW s AS (ORDER BY f.id ROWS UNBOUNDED PRECEDING)
    ), kept AS (
        SELECT s.*, count(*) OVER () AS kept_rows FROM summed s
        WHERE s.n = 1 OR (s.n <= max_rows AND s.bytes_so_far <= max_bytes AND NOT s.is_cut)
    )
    SELECT k.id, k.topic, false, e.type, e.data, e.publisher_id, e.retry, e.comment,
           e.is_text, k.kept_rows < k.all_rows
    FROM kept k LEFT JOIN LATERAL (
        SELECT e.* FROM pgsse.events e
        WHERE e.topic = k.topic AND e.id = k.id OFFSET 0) AS e ON true
    ORDER BY k.id;
END
$$;

-- Removes events that a prune saw for the first time longer than age ago, and those with keep or
-- more newer ones in their topic; NULL is no limit. Oldest first, at most `most` of them: call it
-- again until it returns 0. Prunes wait for each other, and nobody else for them.
CREATE OR REPLACE FUNCTION pgsse.prune(age interval DEFAULT NULL, keep bigint DEFAULT NULL,
                                       most bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    too_old bigint;
    removed bigint;
BEGIN
    IF age IS NULL AND keep IS NULL THEN
        PERFORM pgsse._fail('prune needs an age, or how many events of a topic to keep');
    ELSIF age < '0'::interval OR keep < 0 OR most < 1 THEN
        PERFORM pgsse._fail('age and keep must be 0 or more, most 1 or more');
    END IF;
    LOCK TABLE pgsse.seen IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO pgsse.seen (id, at)
    SELECT max(e.id), clock_timestamp() FROM pgsse.events e HAVING max(e.id) IS NOT NULL
    ON CONFLICT DO NOTHING;
    too_old := (SELECT max(s.id) FROM pgsse.seen s WHERE s.at <= clock_timestamp() - age);

    PERFORM pgsse._open(true);
    WITH RECURSIVE names(topic) AS (
        SELECT min(e.topic) FROM pgsse.events e WHERE keep IS NOT NULL
        UNION ALL
        SELECT (SELECT min(e.topic) FROM pgsse.events e WHERE e.topic > n.topic)
        FROM names n WHERE n.topic IS NOT NULL
    ), too_many AS (
        SELECT n.topic, (SELECT e.id FROM pgsse.events e WHERE e.topic = n.topic
                         ORDER BY e.id DESC OFFSET keep LIMIT 1) AS id
        FROM names n WHERE n.topic IS NOT NULL
    ), doomed AS (
        (SELECT e.id FROM pgsse.events e WHERE e.id <= too_old ORDER BY e.id LIMIT most)
        UNION
        (SELECT e.id FROM too_many m JOIN pgsse.events e ON e.topic = m.topic AND e.id <= m.id
         ORDER BY e.id LIMIT most)
        ORDER BY 1 LIMIT most
    ), gone AS (
        DELETE FROM pgsse.events e USING doomed d WHERE e.id = d.id RETURNING e.topic, e.id
    ), kept AS (
        INSERT INTO pgsse.floors AS f (topic, id)
        SELECT g.topic, max(g.id) FROM gone g GROUP BY g.topic
        ON CONFLICT (topic) DO UPDATE SET id = greatest(f.id, excluded.id)
    )
    SELECT count(*) INTO removed FROM gone;
    PERFORM pgsse._open(false);

    DELETE FROM pgsse.seen s
    WHERE s.id < coalesce((SELECT min(e.id) FROM pgsse.events e), s.id + 1);
    RETURN removed;
END
$$;

-- ---- stored subscriptions ----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION pgsse._check_subscription(user_id text, channel text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF user_id IS NULL OR NOT pgsse._is_name(user_id) THEN
        PERFORM pgsse._fail('user_id must have 1 to 255 bytes and no control characters');
    ELSIF channel IS NULL OR NOT pgsse._is_name(channel) THEN
        PERFORM pgsse._fail('channel must have 1 to 255 bytes and no control characters');
    END IF;
END
$$;

-- Tells that a user's open streams may carry less now; "" is every user. Only a COMMIT sends it.
CREATE OR REPLACE FUNCTION pgsse._recheck() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    everybody text := '{"recheck":""}';
    payloads text[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        payloads := ARRAY[everybody];
    ELSE
        payloads := ARRAY(SELECT DISTINCT '{"recheck":' || to_json(user_id) || '}' FROM old_rows
                          LIMIT 1001);
        -- So many, or what was never made by subscribe and does not fit into a notification.
        IF cardinality(payloads) > 1000 OR
           EXISTS (SELECT FROM unnest(payloads) AS p WHERE octet_length(p) > 7999) THEN
            payloads := ARRAY[everybody];
        END IF;
    END IF;
    PERFORM pg_notify('forge_events', p) FROM unnest(payloads) AS p;
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF (SELECT count(*) FROM pg_trigger WHERE tgfoid = 'pgsse._recheck'::regproc AND
        tgrelid = 'pgsse.subscriptions'::regclass) < 3 THEN
        DROP TRIGGER IF EXISTS recheck_deleted ON pgsse.subscriptions;
        CREATE TRIGGER recheck_deleted AFTER DELETE ON pgsse.subscriptions
            REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION pgsse._recheck();
        DROP TRIGGER IF EXISTS recheck_updated ON pgsse.subscriptions;
        CREATE TRIGGER recheck_updated AFTER UPDATE ON pgsse.subscriptions
            REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION pgsse._recheck();
        DROP TRIGGER IF EXISTS recheck_truncated ON pgsse.subscriptions;
        CREATE TRIGGER recheck_truncated AFTER TRUNCATE ON pgsse.subscriptions
            EXECUTE FUNCTION pgsse._recheck();
    END IF;
END
$$;

-- Whether it was new.
CREATE OR REPLACE FUNCTION pgsse.subscribe(user_id text, channel text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgsse._check_subscription(user_id, channel);
    INSERT INTO pgsse.subscriptions VALUES (user_id, channel) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Whether there was one. Open streams lose it at COMMIT; so they do when its row is deleted.
CREATE OR REPLACE FUNCTION pgsse.unsubscribe(user_id text, channel text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgsse._check_subscription(user_id, channel);
    DELETE FROM pgsse.subscriptions s
    WHERE s.user_id = unsubscribe.user_id COLLATE "C"
      AND s.channel = unsubscribe.channel COLLATE "C";
    RETURN FOUND;
END
$$;

-- The channels of a user, sorted by their bytes.
CREATE OR REPLACE FUNCTION pgsse.subscriptions(user_id text) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.channel FROM pgsse.subscriptions s WHERE s.user_id = $1 COLLATE "C" ORDER BY 1
$$;

-- For programs: which of the pairs of a user and a channel are subscriptions, by their numbers.
CREATE OR REPLACE FUNCTION pgsse.subscribed(numbers integer[], user_ids text[], channels text[])
RETURNS SETOF integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.n FROM unnest($1, $2, $3) AS w(n, user_id, channel)
    JOIN pgsse.subscriptions s
      ON s.user_id = w.user_id COLLATE "C" AND s.channel = w.channel COLLATE "C"
    ORDER BY w.n
$$;

-- ---- to look at --------------------------------------------------------------------------------

CREATE OR REPLACE VIEW pgsse.topics AS
SELECT coalesce(e.topic, f.topic) AS topic, coalesce(e.events, 0) AS events, e.first_id, e.last_id,
       coalesce(e.bytes, 0) AS bytes, e.last_at, f.id AS removed_up_to
FROM (SELECT topic, count(*) AS events, min(id) AS first_id, max(id) AS last_id,
             sum(bytes) AS bytes, max(created_at) AS last_at
      FROM pgsse.events GROUP BY topic) AS e
FULL JOIN pgsse.floors f USING (topic)
ORDER BY 1;

CREATE OR REPLACE VIEW pgsse.recent AS
SELECT id, created_at, topic, type, bytes, left(data::text, 100) AS data
FROM pgsse.events ORDER BY id DESC LIMIT 100;

-- publishing_pid is the backend whose turn it is to publish; publishers_waiting wait for its end.
CREATE OR REPLACE VIEW pgsse.status AS
SELECT pgsse.version() AS version, pgsse.head() AS head, e.*,
       (SELECT count(*) FROM pgsse.subscriptions) AS subscriptions,
       pg_total_relation_size('pgsse.events') AS bytes_on_disk,
       (SELECT max(id) FROM pgsse.floors) AS removed_up_to,
       (SELECT timeline FROM pgsse.state) AS timeline,
       (SELECT pid FROM pg_locks WHERE relation = 'pgsse.publishing'::regclass AND granted AND
        mode = 'ExclusiveLock' LIMIT 1) AS publishing_pid,
       (SELECT count(*) FROM pg_locks WHERE relation = 'pgsse.publishing'::regclass AND
        NOT granted) AS publishers_waiting
FROM (SELECT count(*) AS events, min(id) AS first_id, max(id) AS last_id,
             max(created_at) AS last_at FROM pgsse.events) AS e;

-- ---- what is not everybody's -------------------------------------------------------------------

REVOKE ALL ON FUNCTION pgsse.prune(interval, bigint, bigint), pgsse._begin() FROM PUBLIC;
REVOKE ALL ON pgsse.events, pgsse.publishing, pgsse.state, pgsse.floors, pgsse.seen,
    pgsse.subscriptions, pgsse.topics, pgsse.recent, pgsse.status FROM PUBLIC;
REVOKE ALL ON SEQUENCE pgsse.event_id FROM PUBLIC;

COMMENT ON SCHEMA pgsse IS 'Durable events for pgsse, version 1';
COMMENT ON TABLE pgsse.events IS 'Durable events, ids in commit order. pgsse.publish writes it.';
COMMENT ON TABLE pgsse.publishing IS 'Locked by who publishes, until its transaction ends.';
COMMENT ON TABLE pgsse.floors IS 'The highest id of each topic that was pruned.';
COMMENT ON TABLE pgsse.seen IS 'When a prune saw all events up to an id.';

COMMIT;

\set QUIET :pgsse_quiet
\if :pgsse_quiet
\else
    \echo 'pgsse: version 1 of the schema is installed'
\endif
