-- Reaches every GIN record that PostgreSQL writes, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).
SET gin_pending_list_limit = '4MB';

-- Entry tree: the root splits, then an internal page does (keys too random to compress, three a page),
-- which finishes the split of its child.
CREATE TABLE gin_entry (id int, keys text[]);
CREATE INDEX gin_entry_keys ON gin_entry USING gin (keys) WITH (fastupdate = off);
INSERT INTO gin_entry
SELECT i, array_agg((SELECT string_agg(md5(i || '/' || k || '/' || part), '') FROM generate_series(1, 72) part))
FROM generate_series(1, 20) i, generate_series(1, 8) k GROUP BY i;

-- Empty and null arrays have placeholder entries.
INSERT INTO gin_entry VALUES (100, '{}'), (101, NULL), (102, ARRAY[NULL]::text[]);

-- A key's posting list outgrows its entry tuple (the tuple is replaced, then a posting tree is created),
-- and later items are added to segments of its leaf one row at a time. One row a heap page: the images that
-- wal_consistency_checking adds stay small, and an item takes two bytes.
CREATE TABLE gin_tree (id int, keys int[], pad char(420) DEFAULT '') WITH (fillfactor = 10);
CREATE INDEX gin_tree_keys ON gin_tree USING gin (keys) WITH (fastupdate = off);
INSERT INTO gin_tree SELECT i, ARRAY[1, i % 7] FROM generate_series(1, 1550) i;

-- Holes in the heap are filled again: items go into the middle of existing segments.
DELETE FROM gin_tree WHERE id % 3 = 0 AND id <= 600;
VACUUM (INDEX_CLEANUP on) gin_tree;
INSERT INTO gin_tree SELECT i, ARRAY[1, i % 5] FROM generate_series(4001, 4300) i;

-- The pending list: one row a record into the tail page, rows too wide for a page make a sublist of their own,
-- and flushing it inserts many items at once, so that posting trees get many leaves.
CREATE TABLE gin_pending (id int, keys int[]);
CREATE INDEX gin_pending_keys ON gin_pending USING gin (keys) WITH (fastupdate = on);
INSERT INTO gin_pending SELECT i, ARRAY[i, i + 1] FROM generate_series(1, 300) i;
INSERT INTO gin_pending SELECT i, (SELECT array_agg(e) FROM generate_series(i, i + 1500) e) FROM generate_series(1, 6) i;
INSERT INTO gin_pending SELECT i, ARRAY[i] FROM generate_series(1, 20) i;
SELECT gin_clean_pending_list('gin_pending_keys');

-- A posting tree of several leaves, cheaply: filled before it is logged.
CREATE UNLOGGED TABLE gin_leaves (id int, keys int[], pad char(420) DEFAULT '') WITH (fillfactor = 10);
INSERT INTO gin_leaves SELECT i, ARRAY[5] FROM generate_series(1, 11000) i;
ALTER TABLE gin_leaves SET LOGGED;
CREATE INDEX gin_leaves_keys ON gin_leaves USING gin (keys) WITH (fastupdate = on);
INSERT INTO gin_leaves SELECT i, ARRAY[5] FROM generate_series(11001, 12200) i;
SELECT gin_clean_pending_list('gin_leaves_keys');

-- Vacuum: entry leaves lose items (a full image), posting tree leaves are recompressed or lose segments, and a
-- leaf left without items is deleted, which changes its parent and its left sibling.
DELETE FROM gin_entry WHERE id % 4 = 0;
VACUUM (INDEX_CLEANUP on) gin_entry;
DELETE FROM gin_pending WHERE id % 2 = 0;
VACUUM (INDEX_CLEANUP on) gin_pending;
DELETE FROM gin_leaves WHERE id BETWEEN 1500 AND 9500;
DELETE FROM gin_leaves WHERE id > 10000 AND id % 11 = 0;
VACUUM (INDEX_CLEANUP on) gin_leaves;
INSERT INTO gin_leaves SELECT i, ARRAY[5, i % 3] FROM generate_series(20001, 20600) i;
SELECT gin_clean_pending_list('gin_leaves_keys');

-- A posting tree that comes to nothing keeps an empty leaf; deleted pages are used again.
DELETE FROM gin_leaves;
VACUUM (INDEX_CLEANUP on) gin_leaves;
INSERT INTO gin_leaves SELECT i, ARRAY[5] FROM generate_series(1, 500) i;
SELECT gin_clean_pending_list('gin_leaves_keys');

-- Other operator classes and several columns in one index.
CREATE TABLE gin_mixed (id int, doc tsvector, data jsonb);
CREATE INDEX gin_mixed_both ON gin_mixed USING gin (doc, data jsonb_path_ops);
INSERT INTO gin_mixed
SELECT i, to_tsvector('simple', 'word' || i % 50 || ' other' || i), jsonb_build_object('a', i % 9, 'b', i)
FROM generate_series(1, 500) i;
VACUUM gin_mixed;
UPDATE gin_mixed SET data = jsonb_build_object('c', id) WHERE id % 3 = 0;
VACUUM (INDEX_CLEANUP on) gin_mixed;
RESET gin_pending_list_limit;
