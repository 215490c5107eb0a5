"""Strict schemas of Kubernetes' own kinds and of those that come from elsewhere, for kubeconform."""

import json
import pathlib
import shutil
import subprocess
import zipfile

from report import CACHE, check, run, skip, tool

KUBERNETES = "1.35.0"
# Of Go modules.
CRDS = {
    "github.com/kedacore/keda/v2@v2.20.2": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    "sigs.k8s.io/gateway-api@v1.6.2": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    "github.com/prometheus-operator/prometheus-operator@v0.94.1": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "github.com/argoproj/argo-cd/v2@v2.14.21": ["manifests/crds/application-crd.yaml"],
}
# Of a jar: Flink's operator.
FLINK_JAR = CACHE / "flink-kubernetes-operator-api-1.10.0.jar"
FLINK_CRD = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"


def core():
    """kubernetes-validate's schemas, without the remote names that kubeconform would look up."""
    import kubernetes_validate

    source = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    target = CACHE / "schemas" / f"v{KUBERNETES}"
    if not target.exists():
        target.mkdir(parents=True)
        for file in source.glob("*.json"):
            schema = json.loads(file.read_text())
            schema.pop("$id", None)
            text = json.dumps(schema).replace("/api/_definitions.json#", "_definitions.json#")
            (target / file.name).write_text(text)
    return target


def strict(schema):
    """Unknown fields are mistakes, unless the schema keeps them."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    if isinstance(result.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result.pop("anyOf", None)
        result["type"] = ["integer", "string"]
    return result


def definitions():
    """The texts of all CRDs; None if one isn't there."""
    modules = pathlib.Path(subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True).stdout.strip())
    files = [modules / module / file for module, files in CRDS.items() for file in files]
    if not all(file.exists() for file in files):
        return None
    texts = [file.read_text() for file in files]
    if FLINK_JAR.exists():
        texts.append(zipfile.ZipFile(FLINK_JAR).read(FLINK_CRD).decode())
    return texts


def custom():
    import yaml

    target, texts = CACHE / "schemas" / "crd", definitions()
    if texts is None:
        return None
    for text in texts:
        crd = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for version in crd["spec"]["versions"]:
            folder = target / crd["spec"]["group"]
            folder.mkdir(parents=True, exist_ok=True)
            schema = strict(version["schema"]["openAPIV3Schema"])
            for name in ("apiVersion", "kind", "metadata"):
                schema["properties"][name] = {"type": "object"} if name == "metadata" else {"type": "string"}
            name = f"{crd['spec']['names']['kind'].lower()}_{version['name']}.json"
            (folder / name).write_text(json.dumps(schema))
    return target


class Kubeconform:
    """Checks manifests strictly; `None` from `find` if it or a schema is missing, which is told."""

    def __init__(self, program, custom_schemas):
        self.command = [program, "-strict", "-summary", "-kubernetes-version", KUBERNETES]
        self.command += ["-schema-location", f"{core()}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"]
        self.command += ["-schema-location", f"{custom_schemas}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"]

    @classmethod
    def find(cls):
        program = tool("kubeconform")
        schemas = custom() if program and shutil.which("go") else None
        if schemas:
            return cls(program, schemas)
        skip("manifests, strictly", "kubeconform" if not program else "CRDs from Go modules")
        return None

    def says(self, documents):
        import yaml

        return run([*self.command, "-"], input=yaml.safe_dump_all(documents))

    def check(self, name, documents):
        if any(document["kind"] == "FlinkDeployment" for document in documents) and not FLINK_JAR.exists():
            return skip(f"manifests of {name}", FLINK_JAR.name)
        return check(f"manifests of {name} are valid", self.says(documents))
