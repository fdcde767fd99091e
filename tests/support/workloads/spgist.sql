-- Reaches every SP-GiST record that PostgreSQL writes, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).

-- The root as a leaf: added to, vacuumed, then split.
CREATE TABLE spg_root (id int, name text) WITH (fillfactor = 10);
CREATE INDEX spg_root_name ON spg_root USING spgist (name);
INSERT INTO spg_root SELECT i, 'name' || i FROM generate_series(1, 60) i;
INSERT INTO spg_root SELECT i, NULL FROM generate_series(61, 90) i;
DELETE FROM spg_root WHERE id % 3 = 0;
VACUUM (INDEX_CLEANUP on) spg_root;
INSERT INTO spg_root SELECT i, 'name' || i FROM generate_series(91, 900) i;
INSERT INTO spg_root SELECT i, NULL FROM generate_series(901, 1600) i;

-- The radix tree: new labels in inner tuples (in place, and moved to another page when they no longer fit),
-- prefixes split by keys that part from them earlier and earlier, chains moved between leaf pages.
CREATE TABLE spg_text (id int, name text) WITH (fillfactor = 10);
CREATE INDEX spg_text_name ON spg_text USING spgist (name);
INSERT INTO spg_text SELECT i, 'a long common prefix of many names ' || md5(i::text) FROM generate_series(1, 900) i;
INSERT INTO spg_text
SELECT i, left('a long common prefix of many names', 35 - i % 34) || chr(65 + i % 26) || md5(i::text)
FROM generate_series(1, 400) i;
INSERT INTO spg_text
SELECT i, chr(33 + i * 37 % 90) || chr(33 + i * 53 % 90) || chr(33 + i * 71 % 90) || repeat(md5(i::text), 1 + i % 5)
FROM generate_series(1, 2500) i;
INSERT INTO spg_text
SELECT i, repeat(chr(97 + i % 20), 10 + i % 17) || chr(48 + i % 70) || repeat(md5(i::text), i % 25)
FROM generate_series(1, 900) i;

-- Inner tuples with a label for each of many characters, of many prefixes: pages fill with inner tuples, and one
-- that gains a label has to leave its page, with its parent elsewhere, on the old or on the new page.
INSERT INTO spg_text
SELECT round * 1000 + i, 'n' || chr(192 + i % 40) || chr(256 + round * 13 % 300) || chr(700 + i * round % 400) || repeat('x', i % 60)
FROM generate_series(1, 12) round, generate_series(1, 250) i;

-- Equal keys: all-the-same inner tuples.
INSERT INTO spg_text SELECT i, repeat('same', 100) FROM generate_series(1, 300) i;

-- Vacuum: dead heads of chains, placeholders, tuples moved to the head of their chain, redirects to placeholders,
-- placeholders at the end of a page removed; then DEAD tuples and placeholders are used again.
DELETE FROM spg_text WHERE id % 3 = 0;
VACUUM (INDEX_CLEANUP on) spg_text;
INSERT INTO spg_text SELECT i, 'a long common prefix of many names ' || md5('again' || i) FROM generate_series(1, 500) i;
DELETE FROM spg_text WHERE id < 700;
VACUUM (INDEX_CLEANUP on) spg_text;
INSERT INTO spg_text SELECT i, 'a long common prefix of many names ' || md5('more' || i) FROM generate_series(1, 600) i;
INSERT INTO spg_text SELECT i, left('a long common prefix of many names', i % 34) || md5(i::text) FROM generate_series(1, 300) i;
SELECT txid_current();
VACUUM (INDEX_CLEANUP on) spg_text;

-- Quad and k-d trees of points, and inet with its fixed number of nodes; nulls live in a tree of their own.
CREATE TABLE spg_point (id int, at point) WITH (fillfactor = 10);
CREATE INDEX spg_point_quad ON spg_point USING spgist (at quad_point_ops);
CREATE INDEX spg_point_kd ON spg_point USING spgist (at kd_point_ops);
INSERT INTO spg_point SELECT i, point(i * 7919 % 1009, i * 104729 % 1013) FROM generate_series(1, 1500) i;
INSERT INTO spg_point SELECT i, NULL FROM generate_series(1, 900) i;
INSERT INTO spg_point SELECT i, point(1, 1) FROM generate_series(1, 400) i;
DELETE FROM spg_point WHERE id % 2 = 0;
VACUUM (INDEX_CLEANUP on) spg_point;
INSERT INTO spg_point SELECT i, point(i * 7919 % 1009, i * 104729 % 1013) FROM generate_series(1501, 3000) i;
CREATE TABLE spg_inet (id int, host inet) WITH (fillfactor = 10);
CREATE INDEX spg_inet_host ON spg_inet USING spgist (host) INCLUDE (id);
INSERT INTO spg_inet SELECT i, ('10.' || i % 3 || '.' || i * 7 % 256 || '.' || i * 13 % 256)::inet FROM generate_series(1, 1500) i;
DELETE FROM spg_inet WHERE id % 4 = 0;
VACUUM (INDEX_CLEANUP on) spg_inet;

-- Chains that are dead to the last tuple: the next tuple takes the place of the head, or where its page is full
-- the chain moves without it.
CREATE TABLE spg_dead (id int, name text) WITH (fillfactor = 10);
CREATE INDEX spg_dead_name ON spg_dead USING spgist (name);
INSERT INTO spg_dead SELECT i, chr(65 + i % 30) || md5(i::text) FROM generate_series(1, 700) i;
DELETE FROM spg_dead WHERE name < 'P';
VACUUM (INDEX_CLEANUP on) spg_dead;
INSERT INTO spg_dead SELECT i, chr(80 + i % 3) || md5('full' || i) FROM generate_series(1, 200) i;
INSERT INTO spg_dead SELECT i, chr(65 + i % 15) || repeat(md5(i::text), 30) FROM generate_series(701, 760) i;

-- A build is logged as page images; what follows on it is not.
CREATE INDEX spg_text_built ON spg_text USING spgist (name);
INSERT INTO spg_text SELECT i, 'a long common prefix of many names ' || md5('built' || i) FROM generate_series(1, 300) i;
