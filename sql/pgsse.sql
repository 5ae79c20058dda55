-- pgsse: the schema for durable events. PostgreSQL 13 or later, a database in UTF8 or SQL_ASCII.
--
--     psql -f sql/pgsse.sql "$DATABASE_URL"
--
-- It may be run again at any time, also while events are published, and over an older version of
-- itself: missing objects are created, functions and views are replaced, events and subscriptions
-- stay. All of it happens in one transaction, or nothing. uninstall.sql removes the schema.
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
--     SELECT pgsse.publish('orders', '{"id":7}', tenant => 'acme'); -- another topic than the first
--
-- A tenant is a name space of its own: the same topic, or user, in two tenants is not the same. Its
-- name is 1 to 64 of [A-Za-z0-9_.-], or '', which is a tenant like the others, and the default. A
-- topic's name does not end in *: that is a pattern, see page.
--
-- The guarantee: ids are in commit order. A reader that has read up to id D finds everything new
-- with "id > D ORDER BY id"; no event with a smaller id appears later. For this every publisher
-- takes one lock before it draws its id, and holds the lock until its transaction ends. So publish
-- late in a transaction, or from a CONSTRAINT TRIGGER ... DEFERRABLE INITIALLY DEFERRED, which runs
-- at COMMIT. Ids have gaps where transactions were rolled back. The first id is taken from the
-- clock, so that a schema that was dropped and installed again does not give an id twice.
--
-- Who may do what:
--   publish, publish_many, notify, publish_row   every role that may connect, as with NOTIFY itself.
--       To change that:  REVOKE USAGE ON SCHEMA pgsse FROM PUBLIC, and GRANT it to whom you like.
--   prune          its owner, and roles to which you GRANT EXECUTE.
--   history, page, subscribe, unsubscribe, subscriptions, head, the views   roles with privileges on
--       the tables: only the owner, until you GRANT them.
-- publish and prune run with their owner's rights (SECURITY DEFINER; they have no dynamic SQL).
-- Nobody may INSERT directly, not even the owner: such a row would have an id out of commit order.
-- publish_row runs with the caller's rights: it turns rows into JSON, which calls functions that
-- belong to the owners of the columns' types.
--
-- A stranger's objects on the caller's search_path are never used. Most functions set their own
-- search_path. For the small functions that publishing calls for each event this would take most of
-- the time, so they qualify every name and operator instead.

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
    PERFORM set_config('pgsse.is_new', CASE WHEN to_regclass('pgsse.events') IS NULL THEN 'on'
                                            ELSE '' END, true);
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
        IF installed > 4 THEN
            RAISE EXCEPTION 'version % of the schema pgsse is installed, this script has version 4',
                installed;
        END IF;
    END IF;
    -- Wait for running publishers and prunes, and let new ones wait, so that the installation
    -- cannot deadlock with them.
    IF to_regclass('pgsse.publishing') IS NOT NULL THEN
        LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE;
    END IF;
    IF to_regclass('pgsse.seen') IS NOT NULL THEN
        LOCK TABLE pgsse.seen IN SHARE ROW EXCLUSIVE MODE;
    END IF;
END
$$;

-- The programs check this. It grows with every change that they would notice.
CREATE OR REPLACE FUNCTION pgsse.version() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 4';

-- ---- tables ------------------------------------------------------------------------------------

-- Ids are drawn only under the lock. No event has the id 1: it means the position before all
-- events.
CREATE SEQUENCE IF NOT EXISTS pgsse.event_id AS bigint START 2 CACHE 1;

CREATE TABLE IF NOT EXISTS pgsse.events (
    id bigint PRIMARY KEY CHECK (id >= 2),     -- no default: it would be drawn before the lock
    topic text COLLATE "C" NOT NULL,
    type text NOT NULL,
    data json NOT NULL,                        -- json keeps the bytes, jsonb would not
    publisher_id text,
    retry integer,
    comment text,
    is_text boolean NOT NULL DEFAULT false,    -- a string in data is sent as its text
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    bytes integer NOT NULL,                    -- octets of data and comment; see _bytes
    tenant text COLLATE "C" NOT NULL DEFAULT ''
);

-- The publishers' lock: an empty table, so that only the owner can lock it, and pg_locks shows
-- which backends wait for it.
CREATE TABLE IF NOT EXISTS pgsse.publishing ();

-- One row. If it was not written on this server, the next id leaps ahead: see _leap.
CREATE TABLE IF NOT EXISTS pgsse.state (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    timeline text                              -- 8 hexadecimal digits, as in names of WAL files
);
-- The row's own xmin, as text. After a restore from a dump the row has another xmin, which shows
-- that the row was not written here.
ALTER TABLE pgsse.state ADD COLUMN IF NOT EXISTS written_by text;

-- Ids that were left out on purpose, because an earlier table, or an earlier state of this one, may
-- have given them out. A client that comes with one of them, except the last, may have missed
-- something.
CREATE TABLE IF NOT EXISTS pgsse.leaps (
    from_id bigint PRIMARY KEY,
    to_id bigint NOT NULL
);

-- The highest removed id of each topic: a client whose position is below this id has missed
-- something.
CREATE TABLE IF NOT EXISTS pgsse.floors (
    topic text COLLATE "C",
    id bigint NOT NULL,
    tenant text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, topic)
);
CREATE INDEX IF NOT EXISTS floors_id ON pgsse.floors (id);

-- When a prune saw all events up to id. An event's age counts from the first such time, because
-- created_at may be long before the commit.
CREATE TABLE IF NOT EXISTS pgsse.seen (
    id bigint PRIMARY KEY,
    at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS pgsse.subscriptions (
    user_id text COLLATE "C",
    channel text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, user_id, channel)
);

-- Brings tables of an older version to this one. Their rows are of the tenant '', and are not
-- written anew. Tables that have the column are not touched: ALTER TABLE would wait for their
-- readers.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'pgsse.events'::regclass AND attname = 'tenant') THEN
        ALTER TABLE pgsse.events ADD COLUMN tenant text COLLATE "C" NOT NULL DEFAULT '';
        DROP INDEX IF EXISTS pgsse.events_topic_id;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'pgsse.floors'::regclass AND attname = 'tenant') THEN
        ALTER TABLE pgsse.floors ADD COLUMN tenant text COLLATE "C" NOT NULL DEFAULT '',
            DROP CONSTRAINT IF EXISTS floors_pkey, ADD PRIMARY KEY (tenant, topic);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'pgsse.subscriptions'::regclass AND attname = 'tenant') THEN
        ALTER TABLE pgsse.subscriptions ADD COLUMN tenant text COLLATE "C" NOT NULL DEFAULT '',
            DROP CONSTRAINT IF EXISTS subscriptions_pkey,
            ADD PRIMARY KEY (tenant, user_id, channel);
    END IF;
END
$$;
CREATE INDEX IF NOT EXISTS events_topic_id ON pgsse.events (tenant, topic, id);

-- The highest id of all events, removed events and leaps. No event that is committed later gets
-- this id or a smaller one.
CREATE OR REPLACE FUNCTION pgsse.head() RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT greatest((SELECT max(id) FROM pgsse.events), (SELECT max(id) FROM pgsse.floors),
                    (SELECT to_id FROM pgsse.leaps ORDER BY from_id DESC LIMIT 1), 1)
$$;

-- Leaves out all ids that may have been given to events that are not in this table: by a schema
-- that was dropped, by the table from which this one was restored, or by a server from which this
-- one took over before it had received everything. None of these gives more than one id in a
-- microsecond, so the clock is above all of their ids. In case the clock was set back, the new id
-- is at least 10^9 above the last one.
CREATE OR REPLACE FUNCTION pgsse._leap(here text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last_given bigint := (SELECT greatest(last_value, pgsse.head()) FROM pgsse.event_id);
    first_free bigint := greatest(CASE WHEN last_given > 2 THEN last_given + 1000000000 END,
                                  extract(epoch FROM clock_timestamp())::numeric * 1000000);
BEGIN
    UPDATE pgsse.state SET timeline = here; -- first: with an old snapshot this fails (40001)
    UPDATE pgsse.state SET written_by = xmin::text; -- same transaction, so the xmin stays
    INSERT INTO pgsse.leaps (from_id, to_id) VALUES (pgsse.head() + 1, first_free);
    PERFORM setval('pgsse.event_id', first_free);
END
$$;

INSERT INTO pgsse.state (timeline) VALUES (NULL) ON CONFLICT DO NOTHING;

-- A new table begins above all ids that an earlier table can have given. A sequence that was
-- created again starts after the ids in the tables. An older version of the schema has no
-- written_by: set it.
DO $$
DECLARE
    here text := left(pg_walfile_name(pg_current_wal_lsn()), 8);
BEGIN
    IF current_setting('pgsse.is_new') = 'on' THEN
        PERFORM pgsse._leap(here);
    ELSIF EXISTS (SELECT FROM pgsse.state WHERE timeline = here AND written_by IS NULL) THEN
        UPDATE pgsse.state SET timeline = here;
        UPDATE pgsse.state SET written_by = xmin::text;
    END IF;
    IF (SELECT last_value FROM pgsse.event_id) < pgsse.head() THEN
        PERFORM setval('pgsse.event_id', pgsse.head());
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgsse._guard() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE insufficient_privilege USING
        MESSAGE = format('pgsse: no %s on pgsse.events', TG_OP),
        HINT = 'Only pgsse.publish and publish_many write it, and pgsse.prune removes from it.'
               ' To restore a dump of the data alone: pg_restore --data-only --disable-triggers,'
               ' as a superuser.';
END
$$;

-- Opens that guard. The guard only prevents mistakes; privileges protect the table.
CREATE OR REPLACE FUNCTION pgsse._open(is_open boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('pgsse.writer', CASE WHEN is_open THEN 'on' ELSE '' END, true);
END
$$;

-- The size that counts for a page's max_bytes. It is stored with the event, so that reading a page
-- need not fetch data to measure it. convert_to checks the bytes, as in _is_name.
CREATE OR REPLACE FUNCTION pgsse._bytes(data json, comment text) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.octet_length(pg_catalog.convert_to(data::pg_catalog.text, 'UTF8'))
        OPERATOR(pg_catalog.+)
        coalesce(pg_catalog.octet_length(pg_catalog.convert_to(comment, 'UTF8')), 0)
$$;

-- Adds the column to a table of an older version. A table that has it is not touched: ALTER TABLE
-- would wait for its readers.
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

-- ---- validation --------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION pgsse._fail(problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE invalid_parameter_value USING MESSAGE = 'pgsse: ' || problem;
END
$$;

-- 1 to 255 bytes of UTF-8 without control characters: U+0000 to U+001F, U+007F to U+009F. In a
-- database in SQL_ASCII, convert_to checks that the bytes are UTF-8.
CREATE OR REPLACE FUNCTION pgsse._is_name(name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN pg_catalog.octet_length(name) OPERATOR(pg_catalog.>=) 1
                     AND pg_catalog.octet_length(name) OPERATOR(pg_catalog.<=) 255
        THEN pg_catalog.encode(pg_catalog.convert_to(name, 'UTF8'), 'hex')
             OPERATOR(pg_catalog.!~) '^(?:..)*(?:[01].|7f|c2[89].)'
        ELSE false END
$$;

-- '' or 1 to 64 of [A-Za-z0-9_.-].
CREATE OR REPLACE FUNCTION pgsse._is_tenant(tenant text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.octet_length(tenant) OPERATOR(pg_catalog.<=) 64
       AND tenant COLLATE pg_catalog."C" OPERATOR(pg_catalog.!~) '[^A-Za-z0-9_.-]'
$$;

-- Returns true if the name is a pattern: 'orders.*' means every topic that begins with 'orders.'.
CREATE OR REPLACE FUNCTION pgsse._is_pattern(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.right(name, 1) COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) '*'
$$;

-- Returns true if arrays and objects nest deeper than depth. Text with fewer brackets than that
-- cannot.
CREATE OR REPLACE FUNCTION pgsse._is_deeper(data text, depth integer) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    brackets pg_catalog.text := data;
BEGIN
    IF pg_catalog.octet_length(data) OPERATOR(pg_catalog./) 2 OPERATOR(pg_catalog.<) depth OR
       (pg_catalog.length(data) OPERATOR(pg_catalog.-)
        pg_catalog.length(pg_catalog.translate(data, '[{', ''))) OPERATOR(pg_catalog.<=) depth THEN
        RETURN false;
    END IF;
    brackets := pg_catalog.regexp_replace(brackets COLLATE pg_catalog."C",
                                          E'"(?:[^"\\\\]|\\\\.)*"', '', 'g');
    brackets := pg_catalog.translate(
        pg_catalog.regexp_replace(brackets, '[^][{}]+', '', 'g'), '{}', '[]');
    FOR i IN 1 .. depth LOOP
        brackets := pg_catalog.replace(brackets, '[]', '');
        EXIT WHEN brackets OPERATOR(pg_catalog.=) '';
    END LOOP;
    RETURN brackets OPERATOR(pg_catalog.<>) '';
END
$$;

-- Returns why these values are not a valid event, or NULL if they are.
CREATE OR REPLACE FUNCTION pgsse._problem(topic text, data json, event text, id text,
                                          retry integer, comment text, depth integer,
                                          tenant text)
RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN topic IS NULL OR NOT pgsse._is_name(topic)
            THEN 'topic must have 1 to 255 bytes and no control characters'
        WHEN pgsse._is_pattern(topic)
            THEN 'topic must not end in *, as patterns do'
        WHEN tenant IS NULL OR NOT pgsse._is_tenant(tenant)
            THEN 'tenant must be 1 to 64 of [A-Za-z0-9_.-], or empty'
        WHEN data IS NULL
            THEN 'data is missing (SQL''s NULL is no data, JSON''s null is)'
        WHEN event COLLATE pg_catalog."C" OPERATOR(pg_catalog.<>) '' AND NOT pgsse._is_name(event)
            THEN 'event must have at most 255 bytes and no control characters'
        WHEN event COLLATE pg_catalog."C" OPERATOR(pg_catalog.=)
             ANY ('{refresh,close,error,open,position,end,state}'::pg_catalog.text[])
            THEN 'event: refresh, close, error, open, position, end and state are the stream''s own'
        WHEN pg_catalog.octet_length(id) OPERATOR(pg_catalog.<) 1 OR
             pg_catalog.octet_length(id) OPERATOR(pg_catalog.>) 64 OR
             id COLLATE pg_catalog."C" OPERATOR(pg_catalog.~) '[^A-Za-z0-9_.-]'
            THEN 'id must be 1 to 64 of [A-Za-z0-9_.-]'
        WHEN retry OPERATOR(pg_catalog.<) 0 OR retry OPERATOR(pg_catalog.>) 3600000
            THEN 'retry must be from 0 to 3600000'
        WHEN pgsse._bytes(data, comment) OPERATOR(pg_catalog.>) 1048576
            THEN 'data and comment must have at most 1048576 bytes'
        WHEN pgsse._is_deeper(data::pg_catalog.text, depth)
            THEN pg_catalog.format('data must be nested at most %s deep', depth)
    END;
END
$$;

-- ---- publishing --------------------------------------------------------------------------------

-- Takes the publishers' lock: until the transaction ends nobody else draws an id.
--
-- Lets the ids leap if this server has taken over from another, or the table was restored from a
-- dump. Such a table may not have the newest events, but clients may have their ids.
--
-- Turns synchronous_commit "off" into "on": an event that clients have got must survive a crash.
CREATE OR REPLACE FUNCTION pgsse._begin() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    here pg_catalog.text;
BEGIN
    LOCK TABLE pgsse.publishing IN EXCLUSIVE MODE;
    here := pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8);
    IF NOT EXISTS (SELECT FROM pgsse.state s
                   WHERE s.timeline OPERATOR(pg_catalog.=) here
                     AND s.written_by OPERATOR(pg_catalog.=) s.xmin::pg_catalog.text) THEN
        PERFORM pgsse._leap(here);
    END IF;
    IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
    -- The hint that there is something to read. The text is always the same, so Postgres sends it
    -- once for each transaction.
    PERFORM pg_catalog.pg_notify('pgsse_hint', '{"hint":true}');
END
$$;

-- Returns true if a path of the topics API can name the topic. (Handlers lower-case the path.)
CREATE OR REPLACE FUNCTION pgsse._is_path_name(topic text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.octet_length(topic) OPERATOR(pg_catalog.<=) 128
       AND topic COLLATE pg_catalog."C" OPERATOR(pg_catalog.!~) '[^a-z0-9_-]'
$$;

-- Tells the publisher, once in a session, that clients of the topics API cannot name the topic.
-- Those of the other interfaces can.
CREATE OR REPLACE FUNCTION pgsse._notice_topic(topic text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('pgsse.has_noticed', true) IS DISTINCT FROM 'on' THEN
        PERFORM set_config('pgsse.has_noticed', 'on', false);
        RAISE NOTICE 'pgsse: nobody can read the topic "%" at /topics/, which takes 1 to 128 of'
                     ' [a-z0-9_-]', topic
            USING HINT = 'Events on it can be read at /events.';
    END IF;
END
$$;

-- Publishes one event and returns its id. The parameter id is the publisher's own id. With is_text
-- a string in data is sent as its text, not as JSON.
CREATE OR REPLACE FUNCTION pgsse.publish(topic text, data json, event text DEFAULT 'message',
                                         id text DEFAULT NULL, retry integer DEFAULT NULL,
                                         comment text DEFAULT NULL, is_text boolean DEFAULT false,
                                         tenant text DEFAULT '')
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text := pgsse._problem(topic, data, event, id, retry, comment, 128, tenant);
    drawn bigint;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    PERFORM pgsse._begin();
    PERFORM pgsse._open(true);
    INSERT INTO pgsse.events (id, topic, type, data, publisher_id, retry, comment, is_text, bytes,
                              tenant)
    VALUES (nextval('pgsse.event_id'), topic, coalesce(nullif(event COLLATE "C", ''), 'message'),
            data, id, retry, comment, coalesce(is_text, false), pgsse._bytes(data, comment), tenant)
    RETURNING events.id INTO drawn;
    PERFORM pgsse._open(false);
    IF NOT pgsse._is_path_name(topic) THEN
        PERFORM pgsse._notice_topic(topic);
    END IF;
    RETURN drawn;
END
$$;

CREATE OR REPLACE FUNCTION pgsse.publish(topic text, data jsonb, event text DEFAULT 'message',
                                         id text DEFAULT NULL, retry integer DEFAULT NULL,
                                         comment text DEFAULT NULL, is_text boolean DEFAULT false,
                                         tenant text DEFAULT '')
RETURNS bigint
LANGUAGE sql AS 'SELECT pgsse.publish($1, $2::pg_catalog.json, $3, $4, $5, $6, $7, $8)';

-- Here data is a text that contains JSON: a plain literal in a call is a text. To publish a string:
-- to_json('hello'::text).
CREATE OR REPLACE FUNCTION pgsse.publish(topic text, data text, event text DEFAULT 'message',
                                         id text DEFAULT NULL, retry integer DEFAULT NULL,
                                         comment text DEFAULT NULL, is_text boolean DEFAULT false,
                                         tenant text DEFAULT '')
RETURNS bigint
LANGUAGE sql AS 'SELECT pgsse.publish($1, $2::pg_catalog.json, $3, $4, $5, $6, $7, $8)';

-- Publishes many events, for programs. Returns their ids in the same order. All given arrays must
-- have the same length.
CREATE OR REPLACE FUNCTION pgsse.publish_many(topics text[], datas json[],
                                              events text[] DEFAULT NULL, ids text[] DEFAULT NULL,
                                              retries integer[] DEFAULT NULL,
                                              comments text[] DEFAULT NULL,
                                              are_texts boolean[] DEFAULT NULL,
                                              tenants text[] DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    many integer := cardinality(topics);
    problem text;
BEGIN
    IF topics IS NULL OR datas IS NULL OR cardinality(datas) <> many OR
       cardinality(events) <> many OR cardinality(ids) <> many OR cardinality(retries) <> many OR
       cardinality(comments) <> many OR cardinality(are_texts) <> many OR
       cardinality(tenants) <> many THEN
        PERFORM pgsse._fail('the arrays must have the same length');
    ELSIF many = 0 THEN
        RETURN;
    END IF;
    tenants := coalesce(tenants, array_fill(''::text, ARRAY[many]));
    SELECT format('event %s: %s', n, p) INTO problem FROM (
        SELECT n, pgsse._problem(topic, data, event, id, retry, comment, 128, tenant) AS p
        FROM unnest(topics, datas, events, ids, retries, comments, tenants)
             WITH ORDINALITY AS e(topic, data, event, id, retry, comment, tenant, n)
    ) AS checked WHERE p IS NOT NULL ORDER BY n LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    PERFORM pgsse._begin();
    PERFORM pgsse._open(true);
    RETURN QUERY
    INSERT INTO pgsse.events (id, topic, type, data, publisher_id, retry, comment, is_text, bytes,
                              tenant)
    SELECT nextval('pgsse.event_id'), e.topic,
           coalesce(nullif(e.event COLLATE "C", ''), 'message'), e.data, e.id, e.retry, e.comment,
           coalesce(e.is_text, false), pgsse._bytes(e.data, e.comment), e.tenant
    FROM (SELECT * FROM unnest(topics, datas, events, ids, retries, comments, are_texts, tenants)
                   WITH ORDINALITY AS u(topic, data, event, id, retry, comment, is_text, tenant, n)
          ORDER BY n OFFSET 0) AS e
    RETURNING events.id;
    PERFORM pgsse._open(false);
    PERFORM pgsse._notice_topic(t) FROM unnest(topics) AS t
    WHERE NOT pgsse._is_path_name(t) LIMIT 1;
END
$$;

-- The same from an array of objects: "topic", "data", and optionally "event", "id", "retry",
-- "comment", "text", "tenant", as in a notification. Other keys are ignored, null means absent
-- (except for data). An object with \u0000 or half a surrogate pair in it is an error, because
-- Postgres cannot take it apart; publish and the variant with arrays accept it.
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
            WHEN json_typeof(e -> 'tenant') NOT IN ('string', 'null')
                THEN 'tenant must be a string'
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
        array_agg(e ->> 'comment' ORDER BY n), array_agg((e ->> 'text')::boolean ORDER BY n),
        array_agg(coalesce(e ->> 'tenant', '') ORDER BY n))
    FROM json_array_elements(events) WITH ORDINALITY AS a(e, n);
END
$$;

-- ---- ephemeral events --------------------------------------------------------------------------

-- The channel that carries a topic's notifications: FNV-1a-32 of its name in ASCII lower case,
-- modulo 8. The broker listens to all eight, and accepts any topic on each of them.
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

-- Publishes an ephemeral event with NOTIFY: clients that are connected get it, and nothing is
-- stored. The nonce keeps Postgres from merging equal events of one transaction. An event that is
-- too large for NOTIFY (more than 7,999 bytes with the envelope) is published as a durable event.
-- The topic '*' is a broadcast, to all streams of the tenant that take broadcasts.
CREATE OR REPLACE FUNCTION pgsse.notify(topic text, data json, event text DEFAULT 'message',
                                        id text DEFAULT NULL, retry integer DEFAULT NULL,
                                        comment text DEFAULT NULL, is_text boolean DEFAULT false,
                                        tenant text DEFAULT '')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_broadcast boolean := coalesce(topic COLLATE "C" = '*', false);
    -- 127, since the envelope adds one level.
    problem text := pgsse._problem(CASE WHEN is_broadcast THEN 'all' ELSE topic END, data, event,
                                   id, retry, comment, 127, tenant);
    nonce text := encode(substr(uuid_send(gen_random_uuid()), 1, 8), 'hex');
    payload text;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM pgsse._fail(problem);
    END IF;
    payload := concat('{"topic":', to_json(topic), ',"data":', data,
        ',"event":' || to_json(nullif(nullif(event COLLATE "C", ''), 'message')),
        ',"id":' || to_json(id), ',"retry":' || retry, ',"comment":' || to_json(comment),
        CASE WHEN is_text THEN ',"text":true' END,
        ',"tenant":' || to_json(nullif(tenant COLLATE "C", '')), ',"nonce":"', nonce, '"}');
    IF octet_length(payload) > 7999 AND is_broadcast THEN
        PERFORM pgsse._fail('a broadcast must fit into a notification, which has 7999 bytes');
    ELSIF octet_length(payload) > 7999 THEN
        PERFORM pgsse.publish(topic, data, event, id, retry, comment, is_text, tenant);
    ELSE
        PERFORM pg_notify(pgsse.channel(topic), payload);
        IF NOT is_broadcast AND NOT pgsse._is_path_name(topic) THEN
            PERFORM pgsse._notice_topic(topic);
        END IF;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgsse.notify(topic text, data jsonb, event text DEFAULT 'message',
                                        id text DEFAULT NULL, retry integer DEFAULT NULL,
                                        comment text DEFAULT NULL, is_text boolean DEFAULT false,
                                        tenant text DEFAULT '')
RETURNS void
LANGUAGE sql AS 'SELECT pgsse.notify($1, $2::pg_catalog.json, $3, $4, $5, $6, $7, $8)';

CREATE OR REPLACE FUNCTION pgsse.notify(topic text, data text, event text DEFAULT 'message',
                                        id text DEFAULT NULL, retry integer DEFAULT NULL,
                                        comment text DEFAULT NULL, is_text boolean DEFAULT false,
                                        tenant text DEFAULT '')
RETURNS void
LANGUAGE sql AS 'SELECT pgsse.notify($1, $2::pg_catalog.json, $3, $4, $5, $6, $7, $8)';

-- ---- rows of any table -------------------------------------------------------------------------

-- CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ON any_table FOR EACH ROW
--     EXECUTE FUNCTION pgsse.publish_row('topic' [, 'tenant=column'] [, 'column', ...]);
-- publishes {"operation":"UPDATE","schema":"public","table":"t","old":{...},"new":{...}} for each
-- row, with all columns or those; old and new are null where there is no such row. For a partition
-- there is also "parent":{"schema":"public","table":"all_of_t"}, the root of the partitioned table.
-- AFTER TRUNCATE ... FOR EACH STATEMENT works, too, but for 'tenant=column': it has no row. UPDATE
-- OF and WHEN in the trigger choose which changes are published.
--
-- 'tenant=column' takes the tenant from that column of the new row, or of the old one where there
-- is no new one. Of a row that moves to another tenant each tenant is told its side only: the old
-- one gets the old row with new null, and the new one the new row with old null.
CREATE OR REPLACE FUNCTION pgsse.publish_row() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_row json := 'null';
    new_row json := 'null';
    old_tenant text;
    new_tenant text;
    tenant_column text := (SELECT substr(a, 8) FROM unnest(TG_ARGV[1:]) AS a
                           WHERE a ^@ 'tenant=' LIMIT 1);
    -- (Picking the columns from the whole row's JSON would fail: Postgres cannot take JSON with
    -- \u0000 apart.)
    chosen text := (SELECT '(SELECT row_to_json(r) FROM (SELECT '
                     || string_agg(format('($1).%I', a), ', ' ORDER BY n) || ') AS r)'
                     FROM unnest(TG_ARGV[1:]) WITH ORDINALITY AS u(a, n)
                     WHERE NOT a ^@ 'tenant=');
    -- A row as it is published, and its tenant.
    query text := format('SELECT %s, %s', coalesce(chosen, 'row_to_json($1)'),
                         coalesce('($1).' || quote_ident(tenant_column) || '::text', ''''''));
    start text;
BEGIN
    IF TG_NARGS = 0 THEN
        PERFORM pgsse._fail('publish_row needs a topic: publish_row(''topic'')');
    ELSIF TG_WHEN <> 'AFTER' OR (TG_LEVEL <> 'ROW' AND TG_OP <> 'TRUNCATE') THEN
        PERFORM pgsse._fail('publish_row belongs into a trigger AFTER ... FOR EACH ROW');
    ELSIF TG_OP = 'TRUNCATE' AND tenant_column IS NOT NULL THEN
        PERFORM pgsse._fail('TRUNCATE has no row to take the tenant from');
    END IF;
    BEGIN
        IF TG_OP IN ('UPDATE', 'DELETE') THEN
            EXECUTE query INTO old_row, old_tenant USING OLD;
        END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN
            EXECUTE query INTO new_row, new_tenant USING NEW;
        END IF;
    EXCEPTION WHEN undefined_column THEN
        RAISE undefined_column USING MESSAGE =
            format('pgsse: the trigger %I on %s chooses a column that is not there: %s',
                   TG_NAME, TG_RELID::regclass, SQLERRM);
    END;
    start := concat('{"operation":"', TG_OP, '","schema":', to_json(TG_TABLE_SCHEMA::text),
                    ',"table":', to_json(TG_TABLE_NAME::text));
    IF pg_partition_root(TG_RELID) <> TG_RELID THEN -- NULL: not a partition
        start := (SELECT concat(start, ',"parent":{"schema":', to_json(n.nspname::text),
                                ',"table":', to_json(c.relname::text), '}')
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.oid = pg_partition_root(TG_RELID));
    END IF;
    IF TG_OP = 'UPDATE' AND old_tenant IS DISTINCT FROM new_tenant THEN
        PERFORM pgsse.publish(TG_ARGV[0], concat(start, ',"old":', old_row, ',"new":null}')::json,
                              tenant => old_tenant);
        old_row := 'null';
    END IF;
    PERFORM pgsse.publish(
        TG_ARGV[0], concat(start, ',"old":', old_row, ',"new":', new_row, '}')::json,
        tenant => CASE TG_OP WHEN 'TRUNCATE' THEN '' WHEN 'DELETE' THEN old_tenant
                  ELSE new_tenant END);
    RETURN NULL;
END
$$;

-- ---- reading and removing ----------------------------------------------------------------------

-- The settings of history and page fix their plans: a plan is kept while the tables grow, so it
-- must not depend on statistics of small tables. Rows of a topic are found by comparing pairs
-- (topic, id), because only the index on (tenant, topic, id) can serve such a comparison. With
-- separate comparisons Postgres might walk the primary key through the rows of all topics. (With
-- triples it would not stop at the end of the topic, but at the end of the tenant.) Rows are found by
-- their ids with ORDER BY id, because only the primary key has that order. For "id = x" alone
-- Postgres might read all of the other index, which has the id as well.

-- A topic's events after after_id, oldest first; at most 500.
CREATE OR REPLACE FUNCTION pgsse.history(topic text, after_id bigint DEFAULT 0,
                                         max_rows integer DEFAULT 50,
                                         tenant text DEFAULT '')
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
    owner text COLLATE "C" := tenant;
BEGIN
    IF topic IS NULL OR NOT pgsse._is_name(topic) THEN
        PERFORM pgsse._fail('topic must have 1 to 255 bytes and no control characters');
    ELSIF tenant IS NULL OR NOT pgsse._is_tenant(tenant) THEN
        PERFORM pgsse._fail('tenant must be 1 to 64 of [A-Za-z0-9_.-], or empty');
    ELSIF coalesce(after_id, -1) < 0 THEN
        PERFORM pgsse._fail('after_id must be 0 or more');
    ELSIF coalesce(max_rows, 0) < 1 THEN
        PERFORM pgsse._fail('max_rows must be 1 or more');
    END IF;
    RETURN QUERY
    SELECT e.* FROM pgsse.events e
    WHERE e.tenant = owner AND (e.topic, e.id) > (name, after_id)
      AND (e.topic, e.id) <= (name, 9223372036854775807)
    ORDER BY e.topic, e.id LIMIT least(max_rows, 500);
END
$$;

-- For programs: the events after after_id, up to up_to (NULL: to the end), of the given topics
-- (NULL: of all; '{}': of none), in one snapshot. topics[i] is a topic of the tenant tenants[i]
-- (NULL: all are of ''), or a pattern: 'orders.*' means every topic of that tenant that begins with
-- 'orders.', and '*' every one. No pattern means topics that begin with 'user:'. The result has four
-- parts:
--
--   1. Floors above after_id, with is_floor true; also floors above up_to. Events of that topic up to
--      that id were removed, so a reader at after_id may have missed some. The reader has to be told
--      now: if its next event is above the floor, no later page shows the floor. If topics is NULL
--      or has patterns, and there are more than max_rows floors: only one, with topic NULL and the
--      highest id of all floors.
--   2. If after_id is within a leap (see pgsse.leaps): the end of the leap, with is_floor true and
--      topic NULL.
--   3. Events, ordered by id.
--   4. If there is more: where the page ends, with is_floor and topic NULL. It has everything up to
--      that id, and the next page is read after it.
--
-- A row that was inserted without these functions can have any size, and a wrong value in bytes. If
-- an event is too large, its data and comment are NULL; names are cut.
--
-- A page ends after max_rows events or max_bytes of data and comments, but has at least one event.
-- With many topics it may end sooner. With patterns it may also end without any: in the order of ids,
-- it looks at 10 * max_rows events of all topics and tenants. Of floors it looks at as many, and if
-- there are more it is as if too many had matched.
--
-- Only some rows of each topic are read, since otherwise a page of 64 long topics would cost as much
-- as 64 pages. is_beyond marks the first row past that limit, or past the rows that are looked at.
CREATE OR REPLACE FUNCTION pgsse.page(after_id bigint, up_to bigint DEFAULT NULL,
                                      topics text[] DEFAULT NULL, max_rows integer DEFAULT 1000,
                                      max_bytes bigint DEFAULT 4194304,
                                      tenants text[] DEFAULT NULL)
RETURNS TABLE (id bigint, topic text, is_floor boolean, type text, data json, publisher_id text,
               retry integer, comment text, is_text boolean, tenant text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0
SET jit = off AS $$
DECLARE
    last_id bigint := coalesce(up_to, 9223372036854775807);
    most integer := 1048576;
    each bigint := least(max_rows, greatest(100, 4 * max_rows::bigint
                                                / nullif(cardinality(topics), 0)));
    has_patterns boolean := EXISTS (SELECT FROM unnest(topics) AS t WHERE pgsse._is_pattern(t));
    -- True: rows are looked at in the order of ids. Else those of each topic are found by its name.
    is_scan boolean := topics IS NULL OR has_patterns;
    looked_at bigint := CASE WHEN has_patterns THEN 10 ELSE 1 END * max_rows::bigint;
    kept_ids bigint[]; -- of the rows that fit, if what they say of their bytes is true
    next_id bigint;    -- of the row after them
    returned integer := 0;
BEGIN
    IF coalesce(after_id, -1) < 0 OR up_to < 0 THEN
        PERFORM pgsse._fail('after_id and up_to must be 0 or more');
    ELSIF coalesce(max_rows, 0) < 1 OR coalesce(max_bytes, 0) < 1 THEN
        PERFORM pgsse._fail('max_rows and max_bytes must be 1 or more');
    ELSIF tenants IS NOT NULL AND cardinality(tenants) IS DISTINCT FROM cardinality(topics) THEN
        PERFORM pgsse._fail('the arrays must have the same length');
    END IF;
    RETURN QUERY
    WITH wanted AS (
        SELECT CASE WHEN tenants IS NULL THEN '' ELSE w.tenant END COLLATE "C" AS tenant,
               array_agg(DISTINCT w.topic COLLATE "C") AS names,
               array_agg(left(w.topic, -1) COLLATE "C") FILTER (WHERE pgsse._is_pattern(w.topic))
                   AS prefixes
        FROM unnest(topics, tenants) AS w(topic, tenant) GROUP BY 1
    ), scanned AS (
        SELECT f.id, f.tenant, f.topic FROM pgsse.floors f
        WHERE is_scan AND f.id > after_id ORDER BY f.id LIMIT looked_at + 1
    ), found AS (
        SELECT s.id, s.tenant, s.topic FROM scanned s
        WHERE topics IS NULL OR EXISTS (
            SELECT FROM wanted w WHERE w.tenant = s.tenant AND (
                s.topic = ANY (w.names) OR
                s.topic ^@ ANY (w.prefixes) AND NOT s.topic ^@ 'user:'))
        UNION ALL
        SELECT f.id, w.tenant, name
        FROM wanted w CROSS JOIN unnest(w.names) AS name CROSS JOIN LATERAL (
            SELECT f.id FROM pgsse.floors f
            WHERE f.tenant = w.tenant AND f.topic = name OFFSET 0) AS f
        WHERE NOT is_scan AND f.id > after_id
    ), counted AS (
        SELECT is_scan AND ((SELECT count(*) FROM scanned) > looked_at OR
                            (SELECT count(*) FROM found) > max_rows) AS are_too_many
    )
    SELECT f.id, f.topic, true, NULL::text, NULL::json, NULL::text, NULL::integer, NULL::text,
           NULL::boolean, f.tenant
    FROM counted c CROSS JOIN found f WHERE NOT c.are_too_many
    UNION ALL
    SELECT (SELECT max(f.id) FROM pgsse.floors f), NULL, true, NULL, NULL, NULL, NULL, NULL, NULL,
           NULL
    FROM counted c WHERE c.are_too_many
    UNION ALL
    SELECT l.to_id, NULL, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM (SELECT p.to_id FROM pgsse.leaps p WHERE p.from_id <= after_id
          ORDER BY p.from_id DESC LIMIT 1) AS l
    WHERE l.to_id > after_id AND cardinality(topics) IS DISTINCT FROM 0;

    WITH wanted AS (
        SELECT CASE WHEN tenants IS NULL THEN '' ELSE w.tenant END COLLATE "C" AS tenant,
               array_agg(DISTINCT w.topic COLLATE "C") AS names,
               array_agg(left(w.topic, -1) COLLATE "C") FILTER (WHERE pgsse._is_pattern(w.topic))
                   AS prefixes
        FROM unnest(topics, tenants) AS w(topic, tenant) GROUP BY 1
    ), scanned AS (
        SELECT e.id, e.tenant, e.topic, e.bytes,
               row_number() OVER (ORDER BY e.id) > looked_at AS is_beyond
        FROM pgsse.events e WHERE is_scan AND e.id > after_id AND e.id <= last_id
        ORDER BY e.id LIMIT looked_at + 1
    ), found AS (
        (SELECT s.id, s.bytes, s.is_beyond FROM scanned s
         WHERE topics IS NULL OR s.is_beyond OR EXISTS (
             SELECT FROM wanted w WHERE w.tenant = s.tenant AND (
                 s.topic = ANY (w.names) OR
                 s.topic ^@ ANY (w.prefixes) AND NOT s.topic ^@ 'user:'))
         ORDER BY s.id LIMIT max_rows::bigint + 1)
        UNION ALL
        SELECT e.id, e.bytes, e.n > each
        FROM wanted w CROSS JOIN unnest(w.names) AS name CROSS JOIN LATERAL (
            SELECT e.id, e.bytes, row_number() OVER (ORDER BY e.topic, e.id) AS n
            FROM pgsse.events e
            WHERE e.tenant = w.tenant AND (e.topic, e.id) > (name, after_id)
              AND (e.topic, e.id) <= (name, last_id)
            ORDER BY e.topic, e.id LIMIT each + 1) AS e
        WHERE NOT is_scan
    ), summed AS (
        SELECT f.id, count(*) OVER s AS n, sum(greatest(f.bytes, 0)) OVER s AS bytes_so_far,
               bool_or(f.is_beyond) OVER s AS is_cut
        FROM found f WINDOW s AS (ORDER BY f.id ROWS UNBOUNDED PRECEDING)
    ), kept AS (
        SELECT s.id, NOT s.is_cut AND
               (s.n = 1 OR (s.n <= max_rows AND s.bytes_so_far <= max_bytes)) AS is_kept
        FROM summed s
    )
    SELECT array_agg(k.id ORDER BY k.id) FILTER (WHERE k.is_kept),
           min(k.id) FILTER (WHERE NOT k.is_kept) INTO kept_ids, next_id
    FROM kept k;

    IF kept_ids IS NOT NULL THEN
        RETURN QUERY
        WITH measured AS (
            SELECT e.*, e.size <= most AS is_sound, k.id = kept_ids[1] AS is_first,
                   sum(CASE WHEN e.size <= most THEN e.size END)
                       OVER (ORDER BY k.id ROWS UNBOUNDED PRECEDING) AS size_so_far
            FROM (SELECT u AS id FROM unnest(kept_ids) AS u ORDER BY u) AS k LEFT JOIN LATERAL (
                SELECT e.*, octet_length(e.data::text)::bigint
                            + coalesce(octet_length(e.comment), 0) AS size
                FROM pgsse.events e WHERE e.id >= k.id AND e.id <= k.id ORDER BY e.id LIMIT 1
            ) AS e ON true
        )
        SELECT m.id, left(m.topic, 256), false, left(m.type, 256),
               CASE WHEN m.is_sound THEN m.data END, left(m.publisher_id, 65), m.retry,
               CASE WHEN m.is_sound THEN m.comment END, m.is_text, left(m.tenant, 65)
        FROM measured m WHERE m.is_first OR coalesce(m.size_so_far, 0) <= max_bytes
        ORDER BY m.id;

        GET DIAGNOSTICS returned = ROW_COUNT;
    END IF;
    id := coalesce(kept_ids[returned + 1], next_id) - 1;
    IF id IS NOT NULL THEN
        RETURN NEXT;
    END IF;
END
$$;

-- Removes events that a prune first saw longer than age ago, and events with keep or more newer
-- ones in their topic; NULL means no limit. Removes at most `most` events, the oldest first: call
-- it again until it returns 0. Prunes wait for each other; readers and publishers do not wait for
-- them.
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
    WITH RECURSIVE names AS (
        (SELECT e.tenant, e.topic FROM pgsse.events e WHERE keep IS NOT NULL
         ORDER BY e.tenant, e.topic LIMIT 1)
        UNION ALL
        SELECT e.tenant, e.topic FROM names n CROSS JOIN LATERAL (
            SELECT e.tenant, e.topic FROM pgsse.events e
            WHERE (e.tenant, e.topic) > (n.tenant, n.topic)
            ORDER BY e.tenant, e.topic LIMIT 1) AS e
    ), too_many AS MATERIALIZED (
        SELECT n.tenant, n.topic,
               (SELECT e.id FROM pgsse.events e WHERE e.tenant = n.tenant AND e.topic = n.topic
                ORDER BY e.id DESC OFFSET keep LIMIT 1) AS id
        FROM names n
    ), doomed AS (
        (SELECT e.id FROM pgsse.events e WHERE e.id <= too_old ORDER BY e.id LIMIT most)
        UNION
        (SELECT e.id FROM too_many m JOIN pgsse.events e
             ON e.tenant = m.tenant AND e.topic = m.topic AND e.id <= m.id
         ORDER BY e.id LIMIT most)
        ORDER BY 1 LIMIT most
    ), gone AS (
        DELETE FROM pgsse.events e USING doomed d WHERE e.id = d.id
        RETURNING e.tenant, e.topic, e.id
    ), kept AS (
        INSERT INTO pgsse.floors AS f (tenant, topic, id)
        SELECT g.tenant, g.topic, max(g.id) FROM gone g GROUP BY g.tenant, g.topic
        ON CONFLICT (tenant, topic) DO UPDATE SET id = greatest(f.id, excluded.id)
    )
    SELECT count(*) INTO removed FROM gone;
    PERFORM pgsse._open(false);

    DELETE FROM pgsse.seen s
    WHERE s.id < coalesce((SELECT min(e.id) FROM pgsse.events e), s.id + 1);
    RETURN removed;
END
$$;

-- ---- stored subscriptions ----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION pgsse._check_subscription(user_id text, channel text, tenant text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF user_id IS NULL OR NOT pgsse._is_name(user_id) THEN
        PERFORM pgsse._fail('user_id must have 1 to 255 bytes and no control characters');
    ELSIF channel IS NULL OR NOT pgsse._is_name(channel) THEN
        PERFORM pgsse._fail('channel must have 1 to 255 bytes and no control characters');
    ELSIF tenant IS NULL OR NOT pgsse._is_tenant(tenant) THEN
        PERFORM pgsse._fail('tenant must be 1 to 64 of [A-Za-z0-9_.-], or empty');
    END IF;
END
$$;

-- Sends a hint that a user's rights have shrunk, so that open streams check again: the user and the
-- tenant, if that is not ''; "" means every user of every tenant. Like every NOTIFY, it is sent at
-- COMMIT.
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
        payloads := ARRAY(
            SELECT DISTINCT concat('{"recheck":', to_json(user_id),
                                   ',"tenant":' || to_json(nullif(tenant, '')), '}')
            FROM old_rows LIMIT 1001);
        -- Too many users, or a user_id that subscribe did not check and that is too long for a
        -- notification.
        IF cardinality(payloads) > 1000 OR
           EXISTS (SELECT FROM unnest(payloads) AS p WHERE octet_length(p) > 7999) THEN
            payloads := ARRAY[everybody];
        END IF;
    END IF;
    PERFORM pg_notify('pgsse_hint', p) FROM unnest(payloads) AS p;
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

-- Returns true if the subscription was new.
CREATE OR REPLACE FUNCTION pgsse.subscribe(user_id text, channel text,
                                           tenant text DEFAULT '') RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgsse._check_subscription(user_id, channel, tenant);
    IF pgsse._is_pattern(channel) THEN
        PERFORM pgsse._fail('channel must not end in *, as patterns do');
    END IF;
    INSERT INTO pgsse.subscriptions (user_id, channel, tenant) VALUES (user_id, channel, tenant)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Returns true if the subscription existed. At COMMIT the user's open streams lose the channel, as
-- when its row is deleted.
CREATE OR REPLACE FUNCTION pgsse.unsubscribe(user_id text, channel text,
                                             tenant text DEFAULT '') RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pgsse._check_subscription(user_id, channel, tenant);
    DELETE FROM pgsse.subscriptions s
    WHERE s.tenant = unsubscribe.tenant COLLATE "C"
      AND s.user_id = unsubscribe.user_id COLLATE "C"
      AND s.channel = unsubscribe.channel COLLATE "C";
    RETURN FOUND;
END
$$;

-- The channels of a user, sorted by their bytes.
CREATE OR REPLACE FUNCTION pgsse.subscriptions(user_id text, tenant text DEFAULT '')
RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.channel FROM pgsse.subscriptions s
    WHERE s.tenant = $2 COLLATE "C" AND s.user_id = $1 COLLATE "C" ORDER BY 1
$$;

-- For programs: returns the numbers of those pairs (user, channel) that are subscriptions. tenants
-- says of which tenant each pair is; NULL: all of ''.
CREATE OR REPLACE FUNCTION pgsse.subscribed(numbers integer[], user_ids text[], channels text[],
                                            tenants text[] DEFAULT NULL)
RETURNS SETOF integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.n FROM unnest($1, $2, $3, $4) AS w(n, user_id, channel, tenant)
    JOIN pgsse.subscriptions s
      ON s.tenant = CASE WHEN $4 IS NULL THEN '' ELSE w.tenant END COLLATE "C"
     AND s.user_id = w.user_id COLLATE "C" AND s.channel = w.channel COLLATE "C"
    ORDER BY w.n
$$;

-- ---- views -------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW pgsse.topics AS
SELECT coalesce(e.topic, f.topic) AS topic, coalesce(e.events, 0) AS events, e.first_id, e.last_id,
       coalesce(e.bytes, 0) AS bytes, e.last_at, f.id AS removed_up_to, tenant
FROM (SELECT tenant, topic, count(*) AS events, min(id) AS first_id, max(id) AS last_id,
             sum(bytes) AS bytes, max(created_at) AS last_at
      FROM pgsse.events GROUP BY tenant, topic) AS e
FULL JOIN pgsse.floors f USING (tenant, topic)
ORDER BY tenant, 1;

CREATE OR REPLACE VIEW pgsse.recent AS
SELECT id, created_at, topic, type, bytes, left(data::text, 100) AS data, tenant
FROM pgsse.events ORDER BY id DESC LIMIT 100;

-- publishing_pid is the backend that has the publishers' lock; publishers_waiting is the number of
-- those that wait for it.
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

-- ---- functions of older versions ----------------------------------------------------------------

-- A function that got the parameter tenant is a new one to Postgres. The old one goes, since calls
-- would fit both, and its privileges pass to the new one.
DO $$
DECLARE
    f record;
    command text;
BEGIN
    FOR f IN
        SELECT older.oid::regprocedure AS old_name, newer.oid::regprocedure AS new_name,
               older.proacl
        FROM pg_proc older JOIN pg_proc newer USING (pronamespace, proname)
        WHERE pronamespace = 'pgsse'::regnamespace AND newer.pronargs = older.pronargs + 1
          AND newer.proargtypes::text ^@ concat(older.proargtypes, ' ')
          AND newer.proargnames[newer.pronargs] IN ('tenant', 'tenants')
    LOOP
        FOR command IN
            SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.new_name)
            WHERE f.proacl IS NOT NULL
            UNION ALL
            SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s %s', f.new_name,
                          CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
                          CASE WHEN is_grantable THEN 'WITH GRANT OPTION' END)
            FROM aclexplode(f.proacl)
            UNION ALL
            SELECT format('DROP FUNCTION %s', f.old_name)
        LOOP
            EXECUTE command;
        END LOOP;
    END LOOP;
END
$$;

-- ---- privileges --------------------------------------------------------------------------------

REVOKE ALL ON FUNCTION pgsse.prune(interval, bigint, bigint), pgsse._begin(), pgsse._leap(text)
    FROM PUBLIC;
REVOKE ALL ON pgsse.events, pgsse.publishing, pgsse.state, pgsse.floors, pgsse.seen,
    pgsse.subscriptions, pgsse.topics, pgsse.recent, pgsse.status FROM PUBLIC;
REVOKE ALL ON SEQUENCE pgsse.event_id FROM PUBLIC;
GRANT SELECT ON pgsse.leaps TO PUBLIC; -- head and page read it, and it holds no secrets

COMMENT ON SCHEMA pgsse IS 'Durable events for pgsse, version 4';
COMMENT ON TABLE pgsse.events IS 'Durable events, ids in commit order. pgsse.publish writes it.';
COMMENT ON TABLE pgsse.publishing IS 'Each publisher locks this until its transaction ends.';
COMMENT ON TABLE pgsse.floors IS 'The highest id of each topic that was pruned.';
COMMENT ON TABLE pgsse.leaps IS 'Ids that were left out on purpose: from_id to to_id.';
COMMENT ON TABLE pgsse.seen IS 'When a prune first saw all events up to an id.';

COMMIT;

\set QUIET :pgsse_quiet
\if :pgsse_quiet
\else
    \echo 'pgsse: version 4 of the schema is installed'
\endif
