"""What the reference's tracing does with OpenTelemetry: spans it makes, and what it writes into and reads from contexts.

Reads JSON lines {"send": {"target": {...}, "method": ..., "call_type": ..., "ctxt": {...}}} and
{"receive": {"method": ..., "msg_id": ..., "ctxt": {...}}}; prints for each the span and the context afterwards. Prints the one
word "missing" if OpenTelemetry is not installed.
"""

import json
import sys
import types

try:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter)
except ImportError:
    print('"missing"')
    sys.exit(0)

from oslo_config import cfg

import oslo_messaging
from oslo_messaging._tracing import client


def main():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    cfg.CONF([])
    cfg.CONF.set_override("tracing_enabled", True, group="oslo_messaging_tracing")
    for line in sys.stdin:
        question = json.loads(line)
        if "send" in question:
            what = question["send"]
            ctxt = what["ctxt"]
            around = client.trace_send(
                cfg.CONF, oslo_messaging.Target(**what["target"]),
                what["method"], what["call_type"], ctxt)
        else:
            what = question["receive"]
            ctxt = what["ctxt"]
            around = client.trace_receive(cfg.CONF, types.SimpleNamespace(
                ctxt=ctxt, message={"method": what["method"]},
                msg_id=what["msg_id"]))
        with around:
            pass
        span = exporter.get_finished_spans()[-1]
        print(json.dumps({
            "name": span.name,
            "kind": span.kind.name.lower(),
            "attributes": dict(span.attributes),
            "trace_id": f"{span.context.trace_id:032x}",
            "span_id": f"{span.context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else None,
            "ctxt": ctxt,
        }), flush=True)


main()
