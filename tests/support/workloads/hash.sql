-- Reaches every hash index record that one session can write, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).

-- An index that grows bucket by bucket: buckets split while they have overflow pages.
CREATE TABLE hash_grow (k int, wide char(1500)) WITH (fillfactor = 100);
CREATE INDEX hash_grow_k ON hash_grow USING hash (k) WITH (fillfactor = 10);
INSERT INTO hash_grow SELECT CASE WHEN i < 500 THEN 1 ELSE i % 300 END FROM generate_series(1, 1500) i;

-- One key: one bucket with a chain of overflow pages, which vacuum thins out and squeezes: tuples
-- move to earlier pages, one or several at a time, emptied pages return to the bitmap and are taken again.
CREATE TABLE hash_chain (k int, n int) WITH (fillfactor = 100);
CREATE INDEX hash_chain_k ON hash_chain USING hash (k) WITH (fillfactor = 100);
INSERT INTO hash_chain SELECT 7, i FROM generate_series(1, 2300) i;
DELETE FROM hash_chain WHERE n % 4 = 0;
VACUUM (INDEX_CLEANUP on) hash_chain;
DELETE FROM hash_chain WHERE n % 3 = 0 OR n BETWEEN 900 AND 1400;
VACUUM (INDEX_CLEANUP on) hash_chain;
INSERT INTO hash_chain SELECT 7, i FROM generate_series(3001, 3900) i;
DELETE FROM hash_chain WHERE n < 3400;
VACUUM (INDEX_CLEANUP on) hash_chain;

-- An empty last page is freed while the primary page is the one to write to, and not the one before
-- it: since 17 the record lists the primary page and does not change it.
INSERT INTO hash_chain SELECT 7, i FROM generate_series(4001, 5000) i;
DELETE FROM hash_chain;
VACUUM (INDEX_CLEANUP on) hash_chain;
INSERT INTO hash_chain SELECT 7, i FROM generate_series(5001, 5100) i;

-- Entries marked dead by an index scan go when the page is full.
CREATE TABLE hash_dead (k int, n int);
CREATE INDEX hash_dead_k ON hash_dead USING hash (k);
INSERT INTO hash_dead SELECT 5, i FROM generate_series(1, 400) i;
DELETE FROM hash_dead WHERE n % 2 = 0;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM hash_dead WHERE k = 5;
SELECT count(*) FROM hash_dead WHERE k = 5;
INSERT INTO hash_dead SELECT 5, i FROM generate_series(401, 700) i;
DELETE FROM hash_dead WHERE n % 3 = 0;
SELECT count(*) FROM hash_dead WHERE k = 5;
INSERT INTO hash_dead SELECT 5, i FROM generate_series(701, 900) i;
RESET enable_seqscan;
RESET enable_bitmapscan;
VACUUM (INDEX_CLEANUP on) hash_dead;

-- Built on rows that are there: more buckets from the start; an unlogged index has an init fork.
CREATE TABLE hash_built AS SELECT i AS k FROM generate_series(1, 1500) i;
ANALYZE hash_built;
CREATE INDEX hash_built_k ON hash_built USING hash (k) WITH (fillfactor = 10);
DELETE FROM hash_built WHERE k % 2 = 0;
VACUUM (INDEX_CLEANUP on) hash_built;
CREATE UNLOGGED TABLE hash_unlogged (k text);
CREATE INDEX hash_unlogged_k ON hash_unlogged USING hash (k);
INSERT INTO hash_unlogged VALUES ('x');
