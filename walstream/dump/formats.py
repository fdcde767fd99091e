"""The formats of ``walstream dump``: one entry here is all that a format is.

Loaded for the help of the command: what a writer or a sink needs is imported when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from walstream.dump.lines import RecordWriter
    from walstream.dump.output import MakeWriter
    from walstream.dump.sinks import Sink


class SinkOptions(NamedTuple):
    """What the user asked of a sink.

    ``details``: block references in full; ``described``: descriptions where they are extra.
    """

    details: bool = False
    described: bool = False


class Format(NamedTuple):
    """One way to write records.

    ``writer`` gives what writes about each of them, where anything does. ``make_sink`` gets the
    output. ``columns``: the sink takes columns, too. ``needs_file``: it is no stream.
    ``needs_pyarrow``: the extra ``sql``. ``flushes``: what is written can be given out at any time,
    which following needs.
    """

    writer: Callable[[SinkOptions], MakeWriter | None]
    make_sink: Callable[[IO[bytes], SinkOptions], Sink]
    columns: bool = False
    needs_file: bool = False
    needs_pyarrow: bool = False
    flushes: bool = True


def _lines(options: SinkOptions) -> MakeWriter:
    def make_writer(version: int) -> RecordWriter:
        from walstream.dump.text_lines import LineWriter

        return LineWriter(version, options.details)

    return make_writer


def _objects(_options: SinkOptions) -> MakeWriter:
    def make_writer(version: int) -> RecordWriter:
        from walstream.dump.json_lines import ObjectWriter

        return ObjectWriter(version)

    return make_writer


def _descriptions(options: SinkOptions) -> MakeWriter | None:
    def make_writer(version: int) -> RecordWriter:
        from walstream.dump.lines import RecordWriter

        return RecordWriter(version)

    return make_writer if options.described else None


def _lines_sink(out: IO[bytes], _options: SinkOptions) -> Sink:
    from walstream.dump.sinks import LinesSink

    return LinesSink(out)


def _arrow(out: IO[bytes], options: SinkOptions) -> Sink:
    from walstream.dump.sinks import ArrowSink

    return ArrowSink(out, parquet=False, described=options.described)


def _parquet(out: IO[bytes], options: SinkOptions) -> Sink:
    from walstream.dump.sinks import ArrowSink

    return ArrowSink(out, parquet=True, described=options.described)


FORMATS = {
    "text": Format(_lines, _lines_sink),
    "json": Format(_objects, _lines_sink),
    "arrow": Format(_descriptions, _arrow, columns=True, needs_pyarrow=True, flushes=False),
    "parquet": Format(
        _descriptions, _parquet, columns=True, needs_file=True, needs_pyarrow=True, flushes=False
    ),
}
