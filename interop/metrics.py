"""What oslo.messaging would send to oslo.metrics, and what oslo.metrics makes of what somebody else sends.

Reads JSON lines: {"target": {...}, "method": ..., "call_type": ..., "exception": ...} asks for the reference's own datagrams;
{"datagram": "..."} is handed to the collector's router. Prints a JSON line for each of the first kind, and at the end one
with the collector's exposition.
"""

import json
import sys

import prometheus_client
from oslo_config import cfg
from oslo_metrics import message_router

import oslo_messaging
from oslo_messaging._metrics import client


class Collector(client.MetricsCollectorClient):
    """Keeps what it would send."""

    def __init__(self, conf):
        self.conf = conf.oslo_messaging_metrics
        self.sent = []

    def put_into_txqueue(self, metrics_name, action, **labels):
        labels["process"] = self.conf.metrics_process_name
        metric = client.message_type.Metric(
            "oslo_messaging", metrics_name, action, **labels)
        self.sent.append(metric.to_json())


def reference(question):
    cfg.CONF.set_override("metrics_process_name", question["process"],
                          group="oslo_messaging_metrics")
    collector = Collector(cfg.CONF)
    what = {
        "target": oslo_messaging.Target(**question["target"]),
        "method": question["method"],
        "call_type": question["call_type"],
    }
    collector.rpc_client_invocation_start_total(**what)
    if question.get("exception"):
        collector.rpc_client_exception_total(
            exception=question["exception"], **what)
    else:
        collector.rpc_client_processing_seconds(duration=0.5, **what)
        collector.rpc_client_invocation_end_total(**what)
    return collector.sent


def main():
    cfg.CONF([])
    router = message_router.MessageRouter()
    for line in sys.stdin:
        question = json.loads(line)
        if "datagram" in question:
            router.process(question["datagram"].encode())
        else:
            print(json.dumps(reference(question)), flush=True)
    print(json.dumps(prometheus_client.generate_latest().decode()))


main()
