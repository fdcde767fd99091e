-- Reaches every B-tree record that one session can write, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).

-- Keys of 1300 bytes, five a page: a tree of many levels from few rows. Random order splits left
-- and right of the new item, ascending order only at the end; the first row makes the root.
CREATE TABLE bt_deep (id int, name text) WITH (fillfactor = 100);
ALTER TABLE bt_deep ALTER name SET STORAGE PLAIN;
CREATE INDEX bt_deep_name ON bt_deep (name);
INSERT INTO bt_deep SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 350) i;
INSERT INTO bt_deep SELECT i, 'z' || lpad(i::text, 5, '0') || repeat('z', 1290) FROM generate_series(1001, 1080) i;

-- Whole subtrees become empty: their leaves half-dead, then the pages unlinked one by one, first
-- the inner ones (the leaf remembers the next), the metapage follows when a level has one page left.
DELETE FROM bt_deep WHERE name > '2' AND name < 'b';
VACUUM (INDEX_CLEANUP on) bt_deep;
DELETE FROM bt_deep WHERE id < 1079;
VACUUM (INDEX_CLEANUP on) bt_deep;

-- The fast root splits again: the parent and the metapage in one record. Once no transaction can
-- see the deleted pages they are recycled.
INSERT INTO bt_deep SELECT i, 'z' || lpad(i::text, 5, '0') || repeat('y', 1290) FROM generate_series(1081, 1090) i;
SELECT pg_catalog.txid_current();
SELECT pg_catalog.txid_current();
VACUUM (INDEX_CLEANUP on) bt_deep;
VACUUM (INDEX_CLEANUP on) bt_deep;
INSERT INTO bt_deep SELECT i, repeat(md5(i::text), 40) FROM generate_series(2001, 2150) i;
DELETE FROM bt_deep;
VACUUM (INDEX_CLEANUP on) bt_deep;
VACUUM (INDEX_CLEANUP on) bt_deep;

-- Few keys, many rows: pages are deduplicated before they split.
CREATE TABLE bt_dup (id int, k int, pad text) WITH (fillfactor = 100);
CREATE INDEX bt_dup_k ON bt_dup (k);
INSERT INTO bt_dup SELECT i, i % 7, 'p' FROM generate_series(1, 1800) i;

-- Rows go from everywhere, posting lists shrink or become plain tuples; then their places in the
-- heap are used again, inside the range of existing posting lists, which are split at that place.
DELETE FROM bt_dup WHERE id % 5 IN (0, 2);
VACUUM (INDEX_CLEANUP on) bt_dup;
INSERT INTO bt_dup SELECT i, CASE WHEN i % 3 = 0 THEN i ELSE i % 7 END, 'q' FROM generate_series(2001, 3200) i;
DELETE FROM bt_dup WHERE id % 3 = 1 OR k > 2900;
VACUUM (INDEX_CLEANUP on) bt_dup;

-- The same on leaves that are full and are not deduplicated again: the page splits while a posting
-- list does, which is the last tuple that stays on the left page or an earlier one.
CREATE TABLE bt_full (id int, k int) WITH (fillfactor = 100);
INSERT INTO bt_full SELECT i, i * 37 % 400 FROM generate_series(1, 3200) i;
DELETE FROM bt_full WHERE id / 2 % 3 = 0;
VACUUM bt_full;
CREATE INDEX bt_full_k ON bt_full (k) WITH (fillfactor = 100);
CREATE INDEX bt_full_kk ON bt_full (k, (k || repeat('k', 450))) WITH (fillfactor = 100);
ALTER INDEX bt_full_kk SET (deduplicate_items = off);
CREATE INDEX bt_full_one ON bt_full ((repeat('k', 450) || (k / 1000))) WITH (fillfactor = 100);
ALTER INDEX bt_full_one SET (deduplicate_items = off);
INSERT INTO bt_full SELECT i, i * 61 % 400 FROM generate_series(4001, 5000) i;

-- Versions: every update adds entries to all indexes, those for unchanged keys are deleted bottom-up
-- when a leaf is full, whole or out of posting lists.
CREATE TABLE bt_one (id int PRIMARY KEY, k int, v int) WITH (fillfactor = 100);
CREATE INDEX bt_one_k ON bt_one (k);
CREATE INDEX bt_one_v ON bt_one (v);
INSERT INTO bt_one SELECT i, i / 300, i FROM generate_series(1, 600) i;
UPDATE bt_one SET v = v + 10000;
UPDATE bt_one SET v = v + 10000;
UPDATE bt_one SET v = v + 10000;
UPDATE bt_one SET v = v + 10000 WHERE id % 2 = 0;

-- Dead entries that an index scan has marked are deleted when the leaf is full.
CREATE TABLE bt_dead (k int, pad text);
CREATE INDEX bt_dead_k ON bt_dead (k, pad);
INSERT INTO bt_dead SELECT i % 300, 'x' FROM generate_series(1, 600) i;
DELETE FROM bt_dead WHERE k BETWEEN 20 AND 250 AND ctid >= '(0,30)';
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(pad) FROM bt_dead WHERE k >= 0;
SELECT count(pad) FROM bt_dead WHERE k >= 0;
INSERT INTO bt_dead SELECT i % 300, 'y' FROM generate_series(1, 900) i;
DELETE FROM bt_dead WHERE pad = 'y' AND k % 2 = 0;
SELECT count(pad) FROM bt_dead WHERE k >= 0;
INSERT INTO bt_dead SELECT i % 300, 'z' FROM generate_series(1, 900) i;
RESET enable_seqscan;
RESET enable_bitmapscan;
VACUUM (INDEX_CLEANUP on) bt_dead;

-- Included columns, wide and null keys, descending order; a table emptied at once.
CREATE TABLE bt_wide (a int, b text, c numeric, d timestamptz);
CREATE INDEX bt_wide_abc ON bt_wide (a DESC NULLS LAST, b, c) INCLUDE (d);
CREATE UNIQUE INDEX bt_wide_c ON bt_wide (c) WITH (fillfactor = 50, deduplicate_items = off);
INSERT INTO bt_wide SELECT nullif(i % 11, 3), repeat('w', i % 90), i * 1.5, 'epoch' FROM generate_series(1, 700) i;
UPDATE bt_wide SET b = b || 'more' WHERE c < 300;
DELETE FROM bt_wide WHERE a < 6;
VACUUM (INDEX_CLEANUP on) bt_wide;
TRUNCATE bt_wide;
INSERT INTO bt_wide SELECT i, 'again', i, 'epoch' FROM generate_series(1, 50) i;
