"""What stands beside the chart: the kustomize overlay, the compose file, jobs of engines, the Terragrunt layout, and what the program is made of."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from report import ROOT, check, skip, tool

TERRAGRUNT = ROOT / "deploy" / "terragrunt"
MODULE = ROOT / "deploy" / "terraform" / "modules" / "tenant-lake"
# What each tenant's file has to say, whatever else it does.
INPUTS = {"tenant_id", "data_classification", "vpc_ids", "tags"}


def kustomize():
    """The overlays' manifests, by folder. Kustomize asks for the command helm; its library stands in."""
    import yaml

    program = tool("kubectl")
    if not program:
        skip("kustomize overlays", "kubectl")
        return {}
    rendered = {}
    with tempfile.TemporaryDirectory() as folder:
        helm = os.path.join(folder, "helm")
        with open(helm, "w") as script:
            script.write(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/helm/checks/helm" "$@"\n')
        os.chmod(helm, 0o700)
        for overlay in sorted((ROOT / "deploy" / "kustomize" / "overlays").iterdir()):
            name = f"deploy/kustomize/{overlay.name}"
            command = [program, "kustomize", "--enable-helm", "--helm-command", helm, str(overlay)]
            done = subprocess.run(command, capture_output=True, text=True)
            check(f"{name} is rendered", "" if done.returncode == 0 else done.stderr.strip()[-2000:])
            if done.returncode == 0:
                rendered[name] = [document for document in yaml.safe_load_all(done.stdout) if document]
                check(f"{name} changes what it says", changes(rendered[name]))
    return rendered


def changes(manifests):
    """What the overlay is for, in what came out of it."""
    problems = []
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    if any("helm.sh/hook" in m["metadata"].get("annotations", {}) for m in manifests):
        problems.append("a hook is left, which nobody would run as one")
    if by_name["Deployment", "firn-catalog"]["spec"]["replicas"] != 3:
        problems.append("the catalog's replicas")
    ingest = by_name["Deployment", "firn-ingest"]["spec"]["template"]["spec"]["containers"][0]
    names = [variable["name"] for variable in ingest["env"]]
    if "FIRN_INGEST__COMMIT_INTERVAL" not in names or "FIRN_CONFIG" not in names:
        problems.append(f"variables {names}")
    if by_name["Namespace", "firn"]["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        problems.append("Pod Security")
    return "; ".join(problems)


def engines():
    """The manifests of the engines' jobs, by file."""
    import yaml

    files = sorted((ROOT / "deploy" / "engines").glob("*.yaml"))
    return {f"deploy/engines/{file.name}": list(yaml.safe_load_all(file.read_text())) for file in files}


def terragrunt():
    try:
        import hcl2
    except ImportError:
        return skip("Terragrunt layout", "python-hcl2")

    def read(file):
        return hcl2.loads(file.read_text())

    variables = {name.strip('"'): body for block in read(MODULE / "variables.tf")["variable"] for name, body in block.items()}
    needed = {name for name, body in variables.items() if "default" not in body}
    shared = set(read(TERRAGRUNT / "root.hcl")["inputs"])
    tenants = sorted(TERRAGRUNT.glob("*/*/*/terragrunt.hcl"))
    problems = [] if len(tenants) > 1 else ["fewer than two tenants"]
    for file in tenants:
        inputs, tenant = read(file)["inputs"], file.parent.name
        given = set(inputs) | shared
        problems += [f"{tenant}: the module has no {name}" for name in sorted(given - variables.keys())]
        problems += [f"{tenant}: lacks {name}" for name in sorted((needed | INPUTS) - given)]
        wanted = {"tenant_id": tenant, "bucket_name": f"example-lake-{tenant}", "role_name": f"firn-{tenant}"}
        problems += [f"{tenant}: {name} is {inputs[name]}" for name, value in wanted.items() if inputs[name].strip('"') != value]
        environment = read(file.parent.parent / "environment.hcl")["locals"][0]
        used = set(re.findall(r"local\.environment\.(\w+)", str(inputs)))
        problems += [f"{tenant}: environment.hcl has no {name}" for name in sorted(used - environment.keys())]
    return check("each tenant's Terragrunt inputs are the module's", "; ".join(problems))


def sbom():
    if not shutil.which("cargo"):
        return skip("SBOM", "cargo")
    done = subprocess.run([str(ROOT / "scripts" / "image" / "sbom")], capture_output=True, text=True)
    if done.returncode != 0:
        return check("SBOM is made", done.stderr.strip()[-2000:])
    scopes = {component["name"]: component["scope"] for component in json.loads(done.stdout)["components"]}
    wanted = {"firn-catalog": "required", "rdkafka-sys": "required", "serde_derive": "excluded", "proptest": None}
    wrong = [f"{name} is {scopes.get(name)}" for name, scope in wanted.items() if scopes.get(name) != scope]
    check("SBOM has what is in the program, and says what isn't", "; ".join(wrong))
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(done.stdout)
    except ImportError:
        return skip("SBOM's form", "cyclonedx-python-lib")
    return check("SBOM is a CycloneDX document", str(problem or ""))


def compose():
    try:
        import compose_spec
    except ImportError:
        return skip("compose file", "compose-spec")
    options = compose_spec.PyOptions()
    options.apply_merge = True
    text = (ROOT / "deploy" / "compose" / "compose.yaml").read_text()

    def problem(text):
        try:
            file = options.from_yaml(text)
            for part in (file.validate, file.validate_volumes, file.validate_networks, file.validate_secrets):
                part()
        except ValueError as error:
            return str(error)
        return ""

    check("compose file is valid", problem(text))
    found = problem(text.replace("read_only: true", "read_onl: true"))
    return check("a misspelled key of it is found", "" if "read_onl" in found else "'read_onl' was taken")
