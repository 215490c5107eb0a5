"""Uploads this machine's inventory as an OCSF event, made and validated by another's models of the schema."""

import base64
import json
import os
import platform
import sys
import urllib.error
import urllib.request

import ocsf_emitter
from ocsf_emitter import DeviceRef, InventoryInfoAction, Severity, _models as ocsf

url, host, *clients = sys.argv[1:]
ocsf_emitter.configure_product(name="Asset Scanner", vendor_name="Example")
event = ocsf_emitter.build_inventory_info(
    device=DeviceRef(uid=host, hostname=platform.node(), type_id=1),
    severity=Severity.INFORMATIONAL,
    activity=InventoryInfoAction.COLLECT,
)
memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
release = platform.freedesktop_os_release()
event.device.os = ocsf.Os(type_id=200, name=release["NAME"], version=release.get("VERSION_ID"), kernel_release=platform.release())
event.device.hw_info = ocsf.DeviceHwInfo(cpu_cores=os.cpu_count(), cpu_architecture=platform.machine(), ram_size=memory >> 20)
event.device.network_interfaces = [ocsf.NetworkInterface(type_id=1, ip="192.0.2.7", name="eth0")]
event.device.org = ocsf.Organization(uid="berlin")
# Raises if it is no event of the class.
body = ocsf_emitter.emit_json(event).encode()

statuses = []
for client in clients:
    credentials = base64.b64encode(client.encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    try:
        statuses.append(urllib.request.urlopen(urllib.request.Request(url, body, headers)).status)
    except urllib.error.HTTPError as refused:
        statuses.append(refused.code)
print(json.dumps({"statuses": statuses, "event": json.loads(body)}))
