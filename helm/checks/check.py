"""Checks the deployment files: chart, manifests, policies, alert rules, dashboard, Dockerfile, and what stands beside the chart.

Run by scripts/check-deploy. What a tool that isn't there would have checked is reported as skipped, by the tool's name.
"""

import copy
import json
import pathlib
import re
import shutil
import sys
import tempfile

import beside
from report import ROOT, check, failures, merged, run, skip, skipped, tool
from schemas import Kubeconform

CHART = ROOT / "helm" / "firn"
# Values that must be refused, and what the refusal has to name.
REFUSED = [
    ("a misspelled key", {"catalog": {"replica": 3}}, "replica"),
    ("a value out of range", {"catalog": {"replicas": 0}}, "/catalog/replicas"),
    ("a floating tag", {"image": {"tag": "latest"}}, "/image/tag"),
    ("ingest without Kafka", {"kafka": {"bootstrapServers": ""}}, "kafka.bootstrapServers: needed"),
    ("two replicas on SQLite", {"database": {"type": "sqlite", "urlSecret": {"name": ""}}, "catalog": {"replicas": 2}}, "SQLite has one replica"),
    ("two databases", {"database": {"type": "sqlite", "urlSecret": {"name": "x"}}, "catalog": {"replicas": 1}}, "contradicts database.type"),
    ("PostgreSQL without its secret", {"database": {"urlSecret": {"name": ""}}}, "/database/urlSecret/name"),
    ("two storage back ends", {"storage": {"warehouse": "s3://a/b,file:///c", "local": "/x"}}, "local"),
    ("a warehouse on a node's disk", {"storage": {"warehouse": "file:///data"}}, "/storage/warehouse"),
    ("no signing key", {"signingKey": {"secretName": ""}}, "/signingKey/secretName"),
    ("mutual TLS without certificates", {"tls": {"secretName": "", "mutual": True}}, "tls.mutual: needs certificates"),
    ("two ways in", {"ingress": {"enabled": True, "host": "a.example"}, "gatewayApi": {"enabled": True, "parentRefs": [{"name": "x"}]}}, "choose one way in"),
    ("an ingress without a host", {"ingress": {"enabled": True, "host": ""}, "gatewayApi": {"enabled": False}}, "/ingress/host"),
    ("scaling upside down", {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}}, "minReplicas is above maxReplicas"),
    ("exports of SQLite", {"export": {"enabled": True}, "database": {"type": "sqlite", "urlSecret": {"name": ""}}, "catalog": {"replicas": 1}}, "export.enabled: SQLite"),
    ("no memory limit", {"ingest": {"resources": {"limits": {"memory": None}}}}, "/ingest/resources/limits"),
]

def render(values):
    """The manifests of some values, by Helm's own library."""
    import helm_python
    import yaml

    chart = helm_python.Chart.load(str(CHART))
    texts = chart.render(values, name="firn", namespace="firn")
    manifests = [text for name, text in sorted(texts.items()) if name.endswith(".yaml")]
    return [document for text in manifests for document in yaml.safe_load_all(text) if document]


def refusal(values):
    import helm_python

    chart = helm_python.Chart.load(str(CHART))
    try:
        chart.validate_schema(values)
        chart.render(values, name="firn", namespace="firn")
    except helm_python.HelmError as error:
        return str(error)
    return ""


def chart():
    try:
        import helm_python
        import yaml
    except ImportError as missing:
        return skip("chart", missing.name), {}
    rendered = {}
    for file in sorted((CHART / "examples").glob("*.yaml")):
        values = yaml.safe_load(file.read_text())
        refused = refusal(values)
        check(f"values of {file.name} are accepted", refused)
        if not refused:
            rendered[file.stem] = render(values)
    lint = helm_python.lint(str(CHART), values=yaml.safe_load((CHART / "examples" / "eks.yaml").read_text()))
    problems = [str(problem) for problem in (lint.get("errors") or []) if problem]
    check("chart is lint-free", "; ".join(problems))
    base = yaml.safe_load((CHART / "examples" / "external.yaml").read_text())
    for name, change, names in REFUSED:
        said = refusal(merged(base, change))
        check(f"refused: {name}", "" if names in said else f"expected '{names}' in: {said or 'it was accepted'}")
    check("settings in firn.toml keep their types", settings_types(base))
    check("with mutual TLS, probes, mounts and settings fit together", mutual_tls(base))
    return None, rendered


def settings_types(base):
    import tomllib

    values = merged(base, {"config": {"ingest": {"commit_bytes": 5, "commit_interval": "1s"}, "trace": {"sample": 0.5}}})
    config = next(d for d in render(values) if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "firn")
    parsed = tomllib.loads(config["data"]["firn.toml"])
    wanted = {"commit_bytes": 5, "commit_interval": "1s"}
    found = {key: parsed["ingest"][key] for key in wanted}
    exact = found == wanted and isinstance(found["commit_bytes"], int) and parsed["trace"]["sample"] == 0.5
    return "" if exact else f"{parsed['ingest']}"


def mutual_tls(base):
    import tomllib

    manifests = render(merged(base, {"tls": {"secretName": "firn-tls", "mutual": True}, "export": {"enabled": True}}))
    problems = []
    for name, pod in pods(manifests):
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            mounts = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
            if "migrate" not in name and ("tls" not in volumes or "/etc/firn-tls" not in mounts):
                problems.append(f"{name}: has no certificate")
            for probe in ("livenessProbe", "readinessProbe"):
                if probe in container and container[probe].get("exec", {}).get("command", [])[1:2] != ["health"]:
                    problems.append(f"{name}: {probe} has no certificate to show")
    config = next(m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "firn")
    parsed = tomllib.loads(config["data"]["firn.toml"])
    if set(parsed["tls"]) != {"certificate", "key", "ca", "client_ca"}:
        problems.append(f"settings: {parsed['tls']}")
    if not parsed["catalog"]["url"].startswith("https://"):
        problems.append(parsed["catalog"]["url"])
    return "; ".join(problems)


def pods(manifests):
    for manifest in manifests:
        spec = manifest.get("spec", {})
        job = spec.get("jobTemplate", {}).get("spec", spec)
        pod = spec if manifest["kind"] == "Pod" else job.get("template", {}).get("spec")
        if pod and "containers" in pod:
            yield f"{manifest['kind']} {manifest['metadata']['name']}", pod


def policies(example, manifests, uses_the_cluster=()):
    """What Pod Security's `restricted` asks for, limits, and fixed versions."""
    problems = []
    for name, pod in pods(manifests):
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            problems.append(f"{name}: may run as root, or without seccomp")
        if pod.get("automountServiceAccountToken") is not False and name not in uses_the_cluster:
            problems.append(f"{name}: gets a token of the cluster")
        for container in pod["containers"]:
            context, limits = container.get("securityContext", {}), container.get("resources", {}).get("limits", {})
            if not context.get("readOnlyRootFilesystem") or context.get("allowPrivilegeEscalation") is not False:
                problems.append(f"{name}: writable root, or may gain privileges")
            if context.get("capabilities", {}).get("drop") != ["ALL"]:
                problems.append(f"{name}: keeps capabilities")
            if "memory" not in limits or "cpu" not in limits:
                problems.append(f"{name}: has no limits")
            if not re.search(r"(:[^:/]*\d[^:/]*|@sha256:[0-9a-f]{64})$", container["image"]):
                problems.append(f"{name}: floating image {container['image']}")
    check(f"policies hold for {example}", "; ".join(problems))


def denied_by_default(example, manifests):
    denied = any(m["kind"] == "NetworkPolicy" and "Egress" in m["spec"]["policyTypes"] for m in manifests)
    check(f"{example} denies traffic by default", "" if denied else "no NetworkPolicy does")


def manifests(rendered):
    import yaml

    kubeconform = Kubeconform.find()
    if not kubeconform:
        return
    argo = [document for file in sorted((ROOT / "deploy" / "argocd").glob("*.yaml")) for document in yaml.safe_load_all(file.read_text()) if document]
    for name, documents in [*rendered.items(), ("deploy/argocd", argo), *beside.engines().items()]:
        kubeconform.check(name, documents)
    wrong = copy.deepcopy(next(iter(rendered.values())))
    next(m for m in wrong if m["kind"] == "Deployment")["spec"]["replica"] = 1
    check("a misspelled field is found", "" if kubeconform.says(wrong) else "kubeconform took 'replica'")


def checkov(rendered):
    import yaml

    program = tool("checkov")
    if not program:
        return skip("policies, by checkov", "checkov")
    with tempfile.TemporaryDirectory() as folder:
        for name, documents in rendered.items():
            (pathlib.Path(folder) / f"{pathlib.Path(name).name}.yaml").write_text(yaml.safe_dump_all(documents))
        shutil.copy(ROOT / "Dockerfile", folder)
        # Digests are the operator's to pin; secrets come as variables since the settings are read from there.
        skips = "CKV_K8S_43,CKV_K8S_35,CKV_K8S_15,CKV_K8S_8,CKV_K8S_9,CKV2_K8S_6"
        command = [program, "-d", folder, "--framework", "kubernetes", "dockerfile", "--skip-download", "--compact"]
        check("policies, by checkov", run([*command, "--quiet", "--skip-check", skips]))


def dockerfile():
    program = tool("hadolint")
    if not program:
        return skip("Dockerfile", "hadolint")
    check("Dockerfile, by hadolint", run([program, str(ROOT / "Dockerfile")]))


def alert_rules():
    program = tool("promtool")
    if not program:
        return skip("alert rules", "promtool")
    rules = CHART / "files" / "alerts.yaml"
    check("alert rules, checked", run([program, "check", "rules", "--lint=all", str(rules)]))
    check("alert rules, tested", run([program, "test", "rules", str(ROOT / "helm" / "checks" / "alerts-test.yaml")]))
    titles = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
              for line in (ROOT / "docs" / "OPERATIONS.md").read_text().splitlines() if line.startswith("#")}
    named = set(re.findall(r"OPERATIONS\.md#([a-z0-9-]+)", rules.read_text()))
    check("every alert's runbook exists", ", ".join(sorted(named - titles)))
    check("every metric of an alert exists", unknown_metrics(rules.read_text()))


def unknown_metrics(text):
    page = (ROOT / "docs" / "METRICS.md").read_text()
    known = set(re.findall(r"`(firn_[a-z0-9_]+)`", page))
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    return ", ".join(sorted(set(re.findall(r"\bfirn_[a-z0-9_]+", text)) - known))


def dashboard():
    text = (CHART / "files" / "dashboard.json").read_text()
    board = json.loads(text)
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    check("every metric of the dashboard exists", unknown_metrics(" ".join(expressions)))
    try:
        import promql_parser
    except ImportError:
        return skip("dashboard's expressions", "promql-parser")
    broken = []
    for expression in expressions:
        plain = expression.replace("$__rate_interval", "5m").replace("$tenant", "acme")
        try:
            promql_parser.parse(plain)
        except Exception as error:  # noqa: BLE001 - whatever it says of the expression is the finding
            broken.append(f"{expression}: {error}")
    check("dashboard's expressions parse", "; ".join(broken))
    try:
        from grafana_foundation_sdk.models.dashboard import Dashboard
    except ImportError:
        return skip("dashboard's shape", "grafana-foundation-sdk")
    again = Dashboard.from_json(board)
    kept = again.to_json() if hasattr(again, "to_json") else {}
    check("Grafana knows every key of the dashboard", ", ".join(sorted(set(board) - set(kept))))


def main():
    _, rendered = chart()
    rendered |= beside.kustomize() if rendered else {}
    for example, documents in rendered.items():
        policies(example, documents)
        denied_by_default(example, documents)
    for example, documents in beside.engines().items():
        # Spark's driver makes its executors.
        policies(example, documents, uses_the_cluster=["Job spark-systems"])
    if rendered:
        manifests(rendered)
        checkov(rendered)
    dockerfile()
    beside.sbom()
    beside.terragrunt()
    beside.compose()
    alert_rules()
    dashboard()
    if skipped:
        print(f"skipped: {', '.join(skipped)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
