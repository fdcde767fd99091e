-- Reaches the heap records that one session can write, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).

-- Inserts: first on a page and later ones, nulls, wide rows of every alignment.
CREATE TABLE heap_rows (id int PRIMARY KEY, small int2, big int8, flag bool, name text, pad char(40)) WITH (fillfactor = 80);
INSERT INTO heap_rows SELECT i, i % 7, i * 1000003::int8, i % 2 = 0, repeat('n', i % 61), 'pad' FROM generate_series(1, 300) i;
INSERT INTO heap_rows (id, name) SELECT i, NULL FROM generate_series(301, 380) i;

-- Updates: HOT with a common prefix, suffix, both and neither; not HOT; onto another page; first on a new page.
UPDATE heap_rows SET flag = NOT flag WHERE id % 3 = 0;
UPDATE heap_rows SET name = 'x' || name WHERE id % 5 = 0;
UPDATE heap_rows SET small = NULL WHERE id % 11 = 0;
UPDATE heap_rows SET id = id + 1000 WHERE id % 7 = 0;
UPDATE heap_rows SET name = repeat('grown ', 200) WHERE id % 13 = 0;
UPDATE heap_rows SET pad = 'same length, other text' WHERE id < 200;

-- Pruned while it is read: dead rows go, chains become redirects.
UPDATE heap_rows SET flag = NOT flag WHERE id < 150;
UPDATE heap_rows SET flag = NOT flag WHERE id < 150;
SELECT count(*) FROM heap_rows;
DELETE FROM heap_rows WHERE id BETWEEN 30 AND 60;
SELECT count(*) FROM heap_rows;

-- Vacuum: dead line pointers become unused, pages all-visible, then frozen; and both are undone.
VACUUM (INDEX_CLEANUP on) heap_rows;
DELETE FROM heap_rows WHERE id BETWEEN 61 AND 70;
UPDATE heap_rows SET small = 1 WHERE id BETWEEN 71 AND 80;
INSERT INTO heap_rows (id, name) SELECT i, 'fills a hole' FROM generate_series(30, 50) i;
VACUUM (FREEZE) heap_rows;
SELECT id FROM heap_rows WHERE id BETWEEN 100 AND 110 FOR UPDATE;
SELECT id FROM heap_rows WHERE id BETWEEN 111 AND 120 FOR NO KEY UPDATE;
SELECT id FROM heap_rows WHERE id BETWEEN 121 AND 130 FOR SHARE;
SELECT id FROM heap_rows WHERE id BETWEEN 131 AND 140 FOR KEY SHARE;
INSERT INTO heap_rows (id, name) SELECT i, 'onto a frozen page' FROM generate_series(2001, 2100) i;
UPDATE heap_rows SET flag = true WHERE id BETWEEN 141 AND 170;
DELETE FROM heap_rows WHERE id BETWEEN 171 AND 180;
VACUUM (FREEZE, DISABLE_PAGE_SKIPPING) heap_rows;

-- Rolled back work leaves dead rows, too.
BEGIN;
INSERT INTO heap_rows (id, name) SELECT i, 'never' FROM generate_series(3001, 3100) i;
UPDATE heap_rows SET name = 'never' WHERE id BETWEEN 200 AND 230;
DELETE FROM heap_rows WHERE id BETWEEN 231 AND 240;
ROLLBACK;
VACUUM heap_rows;

-- The end of the table is cut off.
DELETE FROM heap_rows WHERE id > 150;
VACUUM (TRUNCATE on) heap_rows;

-- Many rows in one record: onto new pages, and onto pages that have rows; frozen from the start.
CREATE TABLE heap_copied (i int, t text);
COPY heap_copied FROM PROGRAM 'seq 1 1500 | sed "s/$/\tcopied row/"';
COPY heap_copied FROM PROGRAM 'seq 1 40 | sed "s/$/\tmore/"';
VACUUM heap_copied;
DELETE FROM heap_copied WHERE i % 2 = 0;
VACUUM heap_copied;
COPY heap_copied FROM PROGRAM 'seq 1 900 | sed "s/$/\tagain/"';
BEGIN;
CREATE TABLE heap_frozen (i int, t text);
COPY heap_frozen FROM PROGRAM 'seq 1 1200 | sed "s/$/\tfrozen/"' WITH (FREEZE);
COMMIT;
DELETE FROM heap_frozen WHERE i % 97 = 0;
VACUUM heap_frozen;

-- Speculative insertion that is confirmed.
INSERT INTO heap_rows (id, name) SELECT i, 'upsert' FROM generate_series(1, 260) i ON CONFLICT (id) DO NOTHING;
INSERT INTO heap_rows (id, name) SELECT i, 'upsert' FROM generate_series(250, 300) i ON CONFLICT (id) DO UPDATE SET name = 'was there';

-- Out of line values; the table that holds them is pruned and vacuumed as well.
CREATE TABLE heap_wide (id int, body text);
ALTER TABLE heap_wide ALTER body SET STORAGE EXTERNAL;
INSERT INTO heap_wide SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 30) i;
UPDATE heap_wide SET body = body || 'x' WHERE id % 3 = 0;
DELETE FROM heap_wide WHERE id % 2 = 0;
VACUUM (FREEZE) heap_wide;

-- A row that moves to another partition.
CREATE TABLE heap_parts (k int, v text) PARTITION BY LIST (k);
CREATE TABLE heap_parts_1 PARTITION OF heap_parts FOR VALUES IN (1);
CREATE TABLE heap_parts_2 PARTITION OF heap_parts FOR VALUES IN (2);
INSERT INTO heap_parts SELECT 1, 'v' || i FROM generate_series(1, 50) i;
UPDATE heap_parts SET k = 2 WHERE v < 'v3';

-- A replica identity puts old keys and whole old rows into the records.
CREATE TABLE heap_identity (id int PRIMARY KEY, name text);
INSERT INTO heap_identity SELECT i, 'name ' || i FROM generate_series(1, 60) i;
UPDATE heap_identity SET id = id + 100 WHERE id < 20;
DELETE FROM heap_identity WHERE id BETWEEN 30 AND 40;
ALTER TABLE heap_identity REPLICA IDENTITY FULL;
UPDATE heap_identity SET name = 'full' WHERE id BETWEEN 41 AND 50;
DELETE FROM heap_identity WHERE id > 50;

-- Rewrites: every page anew, under a new file; and truncation.
CLUSTER heap_identity USING heap_identity_pkey;
VACUUM FULL heap_copied;
ALTER TABLE heap_rows ALTER small TYPE int8;
TRUNCATE heap_copied;
CREATE TABLE heap_gone AS SELECT i FROM generate_series(1, 500) i;
BEGIN;
TRUNCATE heap_gone;
INSERT INTO heap_gone VALUES (1);
ROLLBACK;
DROP TABLE heap_gone;

-- Unlogged tables appear with their init fork only, temporary ones not at all.
CREATE UNLOGGED TABLE heap_unlogged (id int PRIMARY KEY, name text);
INSERT INTO heap_unlogged SELECT i, 'unlogged' FROM generate_series(1, 100) i;
ALTER TABLE heap_unlogged SET LOGGED;
INSERT INTO heap_unlogged SELECT i, 'logged' FROM generate_series(101, 200) i;
CREATE TEMPORARY TABLE heap_temporary AS SELECT i FROM generate_series(1, 100) i;
CREATE MATERIALIZED VIEW heap_view AS SELECT id, name FROM heap_rows;
REFRESH MATERIALIZED VIEW heap_view;
