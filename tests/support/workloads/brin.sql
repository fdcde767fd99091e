-- Reaches every BRIN record that one session can write, on a server with autovacuum off.
-- Every statement ends with a semicolon at the end of a line and runs on its own (VACUUM among them).

-- One row and one range a page: more than 1360 ranges need a second revmap page, whose block was a
-- regular page and is evacuated first. The first index tuple of a page comes with the page.
CREATE TABLE brin_rows (id int, k int, name text) WITH (fillfactor = 10);
ALTER TABLE brin_rows ALTER name SET STORAGE PLAIN;
CREATE INDEX brin_rows_k ON brin_rows USING brin (k, name) WITH (pages_per_range = 1);
INSERT INTO brin_rows SELECT i, i, repeat('n', 900) FROM generate_series(1, 300) i;
SELECT brin_summarize_new_values('brin_rows_k');

-- The tuple of a range changes in place while it fits, else it moves to another page or a new one.
UPDATE brin_rows SET k = k + 5000 WHERE id % 20 = 0;
UPDATE brin_rows SET name = 'a' || repeat('a', id % 1800) WHERE id % 3 = 0;
UPDATE brin_rows SET name = repeat('z', 1500) WHERE id % 4 = 1;
UPDATE brin_rows SET name = repeat(chr(97 + id % 26), 1 + id * 7 % 1900) WHERE id % 2 = 0;
VACUUM brin_rows;
SELECT brin_desummarize_range('brin_rows_k', 3);
SELECT brin_desummarize_range('brin_rows_k', 4);
SELECT brin_desummarize_range('brin_rows_k', 250);
SELECT brin_desummarize_range('brin_rows_k', 100000);
SELECT brin_summarize_range('brin_rows_k', 3);
SELECT brin_summarize_new_values('brin_rows_k');

CREATE TABLE brin_many (k int, name text) WITH (fillfactor = 10);
CREATE INDEX brin_many_k ON brin_many USING brin (k) WITH (pages_per_range = 1, autosummarize = off);
INSERT INTO brin_many SELECT i, repeat('m', 900) FROM generate_series(1, 1500) i;
SELECT brin_summarize_new_values('brin_many_k');
INSERT INTO brin_many SELECT i, repeat('m', 900) FROM generate_series(1501, 1600) i;
SELECT brin_summarize_new_values('brin_many_k');
UPDATE brin_many SET k = -k WHERE k % 50 = 0;
SELECT brin_desummarize_range('brin_many_k', 1400);

-- Other operator classes; an unlogged index has an init fork.
CREATE TABLE brin_classes (a int, b inet, c box, d float8);
CREATE INDEX brin_classes_multi ON brin_classes USING brin (a int4_minmax_multi_ops, d float8_minmax_multi_ops) WITH (pages_per_range = 2);
CREATE INDEX brin_classes_bloom ON brin_classes USING brin (a int4_bloom_ops (n_distinct_per_range = 100)) WITH (pages_per_range = 2);
CREATE INDEX brin_classes_box ON brin_classes USING brin (c box_inclusion_ops, b inet_inclusion_ops) WITH (pages_per_range = 2);
INSERT INTO brin_classes SELECT i * 37 % 1000, ('10.0.' || i % 200 || '.1')::inet, box(point(i, i), point(i + 1, i % 7)), i / 3.0 FROM generate_series(1, 700) i;
VACUUM brin_classes;
INSERT INTO brin_classes SELECT i * 41 % 5000, ('10.1.' || i % 200 || '.1')::inet, box(point(-i, i), point(i + 1, i % 7)), -i FROM generate_series(1, 300) i;
VACUUM brin_classes;
CREATE UNLOGGED TABLE brin_unlogged (k int);
CREATE INDEX brin_unlogged_k ON brin_unlogged USING brin (k);
