"""Produces into a tenant's own topic: well-formed, malformed and misattributed records."""

import json
import sys

from confluent_kafka import Producer

servers, topic = sys.argv[1:3]
producer = Producer({"bootstrap.servers": servers, "compression.type": "lz4", "partitioner": "consistent_random"})
failures = []


def delivered(error, _message):
    if error is not None:
        failures.append(str(error))


for number in range(50):
    record = {"host_id": f"pc-{number % 10}", "os_name": "Debian", "seq": number, "rack": "r1"}
    producer.produce(topic, json.dumps(record), key=f"pc-{number % 10}", on_delivery=delivered)
malformed = [b"{", b"\xff\xfe", b"[1]", b'{"os_name":"no host"}', b'{"host_id":"pc-1","seq":"ten"}']
for value in malformed:
    producer.produce(topic, value, on_delivery=delivered)
producer.produce(topic, None, key="pc-1", on_delivery=delivered)
mine = json.dumps({"host_id": "pc-1"})
producer.produce(topic, mine, headers={"firn-tenant": "other"}, on_delivery=delivered)
producer.produce(topic, mine, key="other/pc-1", on_delivery=delivered)
# What only Firn may say is Firn's to say.
producer.produce(topic, mine, headers={"firn-received-at": "1", "firn-source": "forged"}, on_delivery=delivered)
producer.flush(60)
print(json.dumps({"well_formed": 51, "quarantined": len(malformed) + 3, "failures": failures}))
