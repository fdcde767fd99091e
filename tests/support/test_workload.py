"""The splitting of the workload's scripts; what the workload writes is checked where it is used."""

import pytest

from tests.support.workload import WORKLOADS, statements


def test_statements_end_at_line_ends_and_not_inside_quotes() -> None:
    script = """
    -- a comment; with a semicolon;
    SELECT ';', 1; SELECT 2;
    DO $$
    BEGIN
      PERFORM 1;
    END $$;
    SELECT 'a
    ;
    b';  """
    assert list(statements(script)) == [
        "SELECT ';', 1; SELECT 2",
        "DO $$\n    BEGIN\n      PERFORM 1;\n    END $$",
        "SELECT 'a\n    ;\n    b'",
    ]


def test_an_unfinished_script_is_an_error() -> None:
    with pytest.raises(ValueError, match="inside a statement: SELECT 2"):
        list(statements("SELECT 1;\nSELECT 2"))


def test_all_scripts_can_be_split() -> None:
    for path in WORKLOADS.glob("*.sql"):
        assert len(list(statements(path.read_text()))) > 3
