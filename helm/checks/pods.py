"""The chart with pods that run: installed, tested, loaded while it is upgraded and pods are evicted and killed, rolled back, uninstalled.

Run by scripts/check-deploy pods, on a control plane and a node of its own; PostgreSQL, Kafka and S3 are at 10.99.0.1.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import helm_python

import check
import cluster
from cluster import NAMESPACE, events, kubectl, replicas
from report import failures, merged

TIMEOUT = 420
RECORDS = 1500
URL = "http://firn-gateway.firn.svc:8181"
SMALL = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
VALUES = {
    "signingKey": {"secretName": "firn-signing"},
    "database": {"urlSecret": {"name": "firn-database"}},
    "storage": {
        "warehouse": "s3://lake/firn",
        "endpoint": "http://10.99.0.1:8333",
        "region": "us-east-1",
        "pathStyle": True,
        "credentialsSecret": {"name": "firn-storage"},
    },
    "kafka": {"bootstrapServers": "10.99.0.1:9092", "replication": 1},
    "config": {"ingest": {"commit_interval": "1s"}, "promotion": {"interval": "2s"}},
    **{name: {"replicas": count, "resources": SMALL} for name, count in
       [("catalog", 2), ("gateway", 2), ("ingest", 2), ("compactor", 1), ("alerts", 1)]},
}


def prepare():
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True).stdout
    secrets = {
        "firn-signing": {"signing.pem": key},
        "firn-database": {"url": "postgres://firn@10.99.0.1:5432/postgres"},
        "firn-storage": {"access-key-id": "lake", "secret-access-key": "lake-secret"},
    }
    for name, data in secrets.items():
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        kubectl("apply", "-n", NAMESPACE, "-f", "-", input=json.dumps(manifest))


def pods(component=None):
    selector = "app.kubernetes.io/instance=firn" + (f",app.kubernetes.io/component={component}" if component else "")
    items = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "json"))["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def restarts():
    """Containers that ended although nobody told them to."""
    return [f"{pod['metadata']['name']}: {state['restartCount']}" for pod in pods()
            for state in pod["status"].get("containerStatuses", []) if state["restartCount"]]


def mint(tenant):
    """A client's variables, from whoever holds the signing key."""
    args = ["env", "--json", "--config", "/etc/firn/firn.toml", "--url", URL, "--tenant", tenant]
    return json.loads(kubectl("exec", "-n", NAMESPACE, "deploy/firn-catalog", "--", "/usr/local/bin/firn", *args))


def firn(env, *args):
    """The program on this machine, which sees the pods' addresses."""
    gateway = next(pod["status"]["podIP"] for pod in pods("gateway") if pod["status"].get("podIP"))
    keys = {"AWS_ACCESS_KEY_ID": "lake", "AWS_SECRET_ACCESS_KEY": "lake-secret", "AWS_REGION": "us-east-1"}
    variables = {**os.environ, **env, **keys, "FIRN_URL": f"http://{gateway}:8181"}
    variables = {name: value for name, value in variables.items() if name not in ("FIRN_PROGRAM", "FIRN_DEPLOY_CACHE")}
    done = subprocess.run([os.environ["FIRN_PROGRAM"], *args], capture_output=True, text=True, env=variables)
    if done.returncode != 0:
        raise RuntimeError(f"firn {' '.join(args)}: {done.stderr}")
    return done.stdout


def load(env, image):
    """Simulated computers, as a pod of the cluster."""
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "simulate",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["simulate", "--devices", "20", "--rate", "15", "--count", str(RECORDS), "--seed", "6"],
        "env": [{"name": name, "value": value} for name, value in env.items() if name != "FIRN_OPERATOR_TOKEN"],
        "securityContext": restricted,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load"}, "spec": spec}
    kubectl("apply", "-n", NAMESPACE, "-f", "-", input=json.dumps(manifest))


def load_ends():
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        phase = json.loads(kubectl("get", "pod", "load", "-n", NAMESPACE, "-o", "json"))["status"]["phase"]
        if phase in ("Succeeded", "Failed"):
            return "" if phase == "Succeeded" else kubectl("logs", "load", "-n", NAMESPACE)[-2000:]
        time.sleep(1)
    return "it didn't end"


def rows(env):
    """What of the records is in bronze after a while, and how many different ones."""
    query, seen, deadline = "select count(*) as n, count(distinct event_id) as d from bronze.inventory", "nothing", time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            found = json.loads(firn(env, "sql", query, "--format", "json"))[0]
            if found == {"n": RECORDS, "d": RECORDS}:
                return ""
            seen = str(found)
        except (RuntimeError, StopIteration) as error:
            seen = str(error)
        time.sleep(2)
    return f"{seen}, not {RECORDS}"


def evict(name):
    """As a node that is drained does; the API server asks the disruption budget."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NAMESPACE}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(body, file)
        file.flush()
        kubectl("create", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction", "-f", file.name)


def main():
    prepare()
    helm = helm_python.Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=NAMESPACE)
    chart = str(check.CHART)
    helm.install(chart, "firn", VALUES, wait="watcher", timeout=TIMEOUT)
    completed = [message for message in events("Completed") if "ompleted" in message]
    check.check("installed, its migration's pod ended well", "" if completed else "no job completed")
    check.check("no pod was refused", "; ".join(events("FailedCreate")))
    helm.test("firn", timeout=TIMEOUT)
    check.check("helm test", "")

    operator = mint("firn")
    firn({**operator, "FIRN_TOKEN": operator["FIRN_OPERATOR_TOKEN"]}, "tenant", "create", "acme")
    env = mint("acme")
    load(env, pods("gateway")[0]["spec"]["containers"][0]["image"])
    more = merged(VALUES, {"podAnnotations": {"release": "second"}, "gateway": {"replicas": 3}})
    helm.upgrade(chart, "firn", more, wait="watcher", timeout=TIMEOUT)
    old = [pod["metadata"]["name"] for pod in pods() if pod["metadata"].get("annotations", {}).get("release") != "second"]
    check.check("upgraded under load, pod by pod", ", ".join(old) if replicas("deployment", "firn-gateway") == 3 else "replicas")
    evict(pods("gateway")[0]["metadata"]["name"])
    kubectl("delete", "pod", "-n", NAMESPACE, pods("catalog")[0]["metadata"]["name"], "--grace-period=0", "--force")
    kubectl("delete", "pod", "-n", NAMESPACE, pods("ingest")[0]["metadata"]["name"], "--grace-period=0", "--force")
    check.check("the load was taken", load_ends())
    check.check("each record is in bronze, once", rows(env))
    check.check("no container ended by itself", ", ".join(restarts()))

    helm.rollback("firn", wait="watcher", timeout=TIMEOUT)
    check.check("rolled back", "" if replicas("deployment", "firn-gateway") == 2 else "replicas")
    check.check("and nothing is lost by it", rows(env))
    kubectl("delete", "pod", "load", "-n", NAMESPACE)
    helm.uninstall("firn", wait="watcher", timeout=TIMEOUT)
    check.check("uninstalled", ", ".join(cluster.left()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
