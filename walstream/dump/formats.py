"""The formats of ``walstream dump``: one entry here is all that a format is.

Loaded for the help of the command: what a sink needs is imported when it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from walstream.dump.sinks import Sink


class SinkOptions(NamedTuple):
    """What the user asked of a sink.

    ``details``: block references in full; ``described``: descriptions where they are extra.
    """

    details: bool = False
    described: bool = False


class Format(NamedTuple):
    """One way to write records.

    ``make_sink`` gets the output and the major version of the WAL. ``needs_file``: it is no stream.
    ``needs_bytes``: columns are not enough, the bytes of records are wanted (where there are no
    descriptions). ``needs_pyarrow``: the extra ``sql``. ``flushes``: what is written can be given
    out at any time, which following needs.
    """

    make_sink: Callable[[IO[bytes], int, SinkOptions], Sink]
    needs_file: bool = False
    needs_bytes: bool = True
    needs_pyarrow: bool = False
    flushes: bool = True


def _text(out: IO[bytes], version: int, options: SinkOptions) -> Sink:
    from walstream.dump.sinks import TextSink

    return TextSink(out, version, options.details)


def _json(out: IO[bytes], version: int, _options: SinkOptions) -> Sink:
    from walstream.dump.sinks import JsonSink

    return JsonSink(out, version)


def _arrow(out: IO[bytes], version: int, options: SinkOptions) -> Sink:
    from walstream.dump.sinks import ArrowSink

    return ArrowSink(out, version, parquet=False, described=options.described)


def _parquet(out: IO[bytes], version: int, options: SinkOptions) -> Sink:
    from walstream.dump.sinks import ArrowSink

    return ArrowSink(out, version, parquet=True, described=options.described)


FORMATS = {
    "text": Format(_text),
    "json": Format(_json),
    "arrow": Format(_arrow, needs_bytes=False, needs_pyarrow=True, flushes=False),
    "parquet": Format(
        _parquet, needs_file=True, needs_bytes=False, needs_pyarrow=True, flushes=False
    ),
}
