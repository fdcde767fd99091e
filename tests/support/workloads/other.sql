-- Sequences, generic records, large objects, catalogs, logical messages: what one session can write beside
-- heap and indexes. Every statement ends with a semicolon at the end of a line and runs on its own.

CREATE SEQUENCE other_sequence;
SELECT nextval('other_sequence') FROM generate_series(1, 100);
SELECT setval('other_sequence', 5000);
ALTER SEQUENCE other_sequence INCREMENT 7 CACHE 10;
SELECT nextval('other_sequence') FROM generate_series(1, 50);
CREATE TABLE other_serial (id bigserial, name text);
INSERT INTO other_serial (name) SELECT 'row' FROM generate_series(1, 80);

-- Generic records come from extensions.
CREATE EXTENSION bloom;
CREATE TABLE other_bloom (a int, b int, c text);
CREATE INDEX other_bloom_index ON other_bloom USING bloom (a, b, c);
INSERT INTO other_bloom SELECT i, i % 10, 'c' || i FROM generate_series(1, 700) i;
DELETE FROM other_bloom WHERE a % 3 = 0;
VACUUM (INDEX_CLEANUP on) other_bloom;
INSERT INTO other_bloom SELECT i, i % 10, 'again' FROM generate_series(701, 900) i;

SELECT lo_from_bytea(0, decode(repeat('00ff', 3000), 'hex'));
SELECT lo_unlink(oid) FROM pg_largeobject_metadata;

SELECT pg_logical_emit_message(true, 'walstream', 'with a transaction');
SELECT pg_logical_emit_message(false, 'walstream', 'without one');

-- Many subtransactions: their assignment to the top transaction is logged.
CREATE TABLE other_nested (i int);
DO $$
BEGIN
  FOR i IN 1 .. 200 LOOP
    BEGIN
      INSERT INTO other_nested VALUES (i);
      IF i % 10 = 0 THEN RAISE EXCEPTION 'rolled back'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
  END LOOP;
END $$;

-- Catalogs: in-place updates, mapped relations, invalidations, drops in commits and aborts.
CREATE SCHEMA other_schema;
CREATE TABLE other_schema.dropped (id int PRIMARY KEY, name text);
INSERT INTO other_schema.dropped SELECT i, 'name' FROM generate_series(1, 200) i;
CREATE INDEX CONCURRENTLY dropped_name ON other_schema.dropped (name);
REINDEX TABLE other_schema.dropped;
ANALYZE other_schema.dropped;
BEGIN;
CREATE TABLE other_schema.aborted AS SELECT i FROM generate_series(1, 100) i;
ROLLBACK;
DROP SCHEMA other_schema CASCADE;
VACUUM FULL pg_class;
REINDEX TABLE pg_attribute;
CLUSTER pg_index USING pg_index_indexrelid_index;
SELECT pg_create_logical_replication_slot('walstream_slot', 'pgoutput');
CREATE TABLE other_later (i int);
VACUUM FULL pg_attribute;
SELECT pg_drop_replication_slot('walstream_slot');
COMMENT ON TABLE other_serial IS 'a comment';
ANALYZE;

-- Two phases.
BEGIN;
CREATE TABLE other_prepared (i int);
INSERT INTO other_prepared SELECT generate_series(1, 50);
DROP TABLE other_nested;
PREPARE TRANSACTION 'committed';
COMMIT PREPARED 'committed';
BEGIN;
INSERT INTO other_serial (name) VALUES ('rolled back in two phases');
CREATE TABLE other_unprepared (i int);
PREPARE TRANSACTION 'rolled back';
ROLLBACK PREPARED 'rolled back';

-- Replication origins.
SELECT pg_replication_origin_create('walstream_origin');
SELECT pg_replication_origin_session_setup('walstream_origin');
BEGIN;
SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-01 00:00:00+00');
INSERT INTO other_serial (name) VALUES ('from elsewhere');
COMMIT;
SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_advance('walstream_origin', '0/ABCDF0');
SELECT pg_replication_origin_drop('walstream_origin');

-- What the log says about itself.
SELECT pg_create_restore_point('walstream restore point');
SELECT pg_switch_wal();
CHECKPOINT;
