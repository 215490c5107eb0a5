"""Installs, upgrades, rolls back and uninstalls the chart on the API server of KUBECONFIG, with Pod Security `restricted`.

Run by scripts/check-deploy cluster, on a control plane of its own: everything it makes is thrown away.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import helm_python
import yaml

import check
import schemas
from report import failures, merged

NAMESPACE = "firn"
TIMEOUT = 180


def kubectl(*args, **options):
    done = subprocess.run(["kubectl", *args], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr}")
    return done.stdout


def prepare():
    """Kinds that the chart uses beyond Kubernetes' own, and a namespace that takes restricted pods alone."""
    modules = pathlib.Path(subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True).stdout.strip())
    for module, files in schemas.CRDS.items():
        for file in files:
            kubectl("apply", "--server-side", "-f", str(modules / module / file))
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    for crd in ("scaledobjects.keda.sh", "httproutes.gateway.networking.k8s.io", "servicemonitors.monitoring.coreos.com"):
        kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=60s")


def replicas(kind, name):
    return json.loads(kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json"))["status"].get("readyReplicas", 0)


def events(reason):
    items = json.loads(kubectl("get", "events", "-n", NAMESPACE, "-o", "json"))["items"]
    return [item["message"] for item in items if item["reason"] == reason]


def strict_dry_run(values):
    """The server itself judges every manifest, unknown fields included."""
    manifests = [m for m in check.render(values) if "helm.sh/hook" not in m["metadata"].get("annotations", {})]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(yaml.safe_dump_all(manifests))
        file.flush()
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-f", file.name)


def refuses_a_careless_pod():
    """The namespace does enforce: what the chart never makes is refused."""
    careless = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    done = subprocess.run(["kubectl", "apply", "-n", NAMESPACE, "-f", "-"], input=json.dumps(careless), capture_output=True, text=True)
    return done.returncode != 0 and "restricted" in done.stderr


def left():
    """What an uninstalled release should have taken with it."""
    kinds = "deploy,sts,svc,cm,pdb,networkpolicy,sa,job"
    return kubectl("get", kinds, "-n", NAMESPACE, "-l", "app.kubernetes.io/instance=firn", "-o", "name").split()


def main():
    prepare()
    helm = helm_python.Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=NAMESPACE)
    chart = str(check.CHART)
    examples = {file.stem: yaml.safe_load(file.read_text()) for file in (check.CHART / "examples").glob("*.yaml")}
    check.check("restricted is enforced", "" if refuses_a_careless_pod() else "a careless pod was taken")
    for name, values in sorted(examples.items()):
        try:
            strict_dry_run(values)
            check.check(f"the API server takes {name}", "")
        except RuntimeError as error:
            check.check(f"the API server takes {name}", str(error))

    values = examples["external"]
    helm.install(chart, "firn", values, wait="watcher", timeout=TIMEOUT)
    migrated = [message for message in events("SuccessfulCreate") if "firn-migrate" in message]
    check.check("installed, after its migration", "" if migrated and replicas("deployment", "firn-catalog") == 2 else f"{migrated}")
    check.check("no pod was refused", "; ".join(events("FailedCreate")))
    helm.test("firn", timeout=TIMEOUT)
    check.check("helm test", "")

    more = merged(values, {"gateway": {"replicas": 3}, "alerts": {"replicas": 2}})
    helm.upgrade(chart, "firn", more, wait="watcher", timeout=TIMEOUT)
    check.check("upgraded", "" if (replicas("deployment", "firn-gateway"), replicas("statefulset", "firn-alerts")) == (3, 2) else "replicas")
    helm.rollback("firn", wait="watcher", timeout=TIMEOUT)
    check.check("rolled back", "" if replicas("deployment", "firn-gateway") == 2 else "replicas")
    helm.uninstall("firn", wait="watcher", timeout=TIMEOUT)
    check.check("uninstalled", ", ".join(left()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
