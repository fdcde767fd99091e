-- Reaches every GiST record that PostgreSQL writes, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).

-- Leaf inserts, parent keys that grow (one tuple overwritten), leaf and root splits, splits of internal pages
-- (which clear follow-right on the left half of the split below).
CREATE TABLE gist_box (id int, area box) WITH (fillfactor = 10);
CREATE INDEX gist_box_area ON gist_box USING gist (area);
INSERT INTO gist_box
SELECT i, box(point(i * 7919 % 1000, i * 104729 % 1000), point(i * 7919 % 1000 + 3, i * 104729 % 1000 + 3))
FROM generate_series(1, 1800) i;

-- Wide keys: few tuples a page, deep tree, splits into more than two pages.
CREATE TABLE gist_wide (id int, doc tsvector) WITH (fillfactor = 10);
CREATE INDEX gist_wide_doc ON gist_wide USING gist (doc tsvector_ops (siglen = 2000));
INSERT INTO gist_wide
SELECT i, (SELECT array_to_tsvector(array_agg(DISTINCT md5(i || '/' || k))) FROM generate_series(1, 1 + i * 37 % 300) k)
FROM generate_series(1, 150) i;

-- A page full of dead tuples: an index scan marks them, the next insert into the full page removes them.
CREATE TABLE gist_dead (id int, at point) WITH (fillfactor = 10);
CREATE INDEX gist_dead_at ON gist_dead USING gist (at);
INSERT INTO gist_dead SELECT i, point(i % 20, i % 10) FROM generate_series(1, 130) i;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
DELETE FROM gist_dead WHERE id <= 100;
SELECT count(*) FROM gist_dead WHERE at <@ box(point(-1, -1), point(100, 100));
INSERT INTO gist_dead SELECT i, point(i % 20, i % 10) FROM generate_series(131, 330) i;
UPDATE gist_dead SET at = point(id % 5, 1) WHERE id > 200;
SELECT count(*) FROM gist_dead WHERE at <@ box(point(-1, -1), point(100, 100));
INSERT INTO gist_dead SELECT i, point(i % 20, i % 10) FROM generate_series(331, 600) i;
RESET enable_seqscan;
RESET enable_bitmapscan;

-- Vacuum removes leaf tuples, deletes empty leaves and their downlinks; the pages are used again once no
-- transaction can see them.
DELETE FROM gist_box WHERE id % 5 = 0;
VACUUM (INDEX_CLEANUP on) gist_box;
DELETE FROM gist_box WHERE (area[1])[0] < 700;
VACUUM (INDEX_CLEANUP on) gist_box;
INSERT INTO gist_box VALUES (0, box(point(0, 0), point(1, 1)));
SELECT txid_current();
VACUUM (INDEX_CLEANUP on) gist_box;
INSERT INTO gist_box
SELECT i, box(point(i * 7919 % 1000, i * 104729 % 1000), point(i * 7919 % 1000 + 3, i * 104729 % 1000 + 3))
FROM generate_series(3001, 4500) i;

-- Builds: sorted (point has sort support) and buffered, both logged as page images.
CREATE TABLE gist_point AS SELECT i AS id, point(i % 100, i / 100) AS at FROM generate_series(1, 2000) i;
CREATE INDEX gist_point_sorted ON gist_point USING gist (at);
CREATE INDEX gist_point_buffered ON gist_point USING gist (at) WITH (buffering = on);
INSERT INTO gist_point SELECT i, point(i % 100, i / 100) FROM generate_series(2001, 2600) i;

-- Included columns and an exclusion constraint.
CREATE TABLE gist_range (id int, span int4range, EXCLUDE USING gist (span WITH &&)) WITH (fillfactor = 10);
CREATE INDEX gist_range_include ON gist_range USING gist (span) INCLUDE (id);
INSERT INTO gist_range SELECT i, int4range(i * 10, i * 10 + 9) FROM generate_series(1, 800) i;
DELETE FROM gist_range WHERE id BETWEEN 100 AND 600;
VACUUM (INDEX_CLEANUP on) gist_range;
