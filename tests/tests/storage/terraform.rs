//! What `--terraform` prints makes what `firn tenant provision` makes.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use firn_tests::{Moto, firn_stdout};

use crate::{
    lake::REGION,
    provision::{Server, change_of, changes},
};

/// Where providers lie on a machine without Terraform's registry.
const PLUGINS: &str = "FIRN_TERRAFORM_PLUGINS";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Terraform and its provider hashicorp/aws"]
async fn terraform_and_provision_make_the_same_bucket() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let terraform = |args: &[&str]| {
        Command::new("terraform").arg(format!("-chdir={}", dir.path().display())).args(args).output()
    };
    let moto = Moto::start().await?;
    let account = "arn:aws:iam::123456789012:role";
    let settings = format!(
        "role_arn = \"{account}/firn-{{tenant}}\"\n\
         [provisioning]\nvpc_endpoint_ids = [\"vpce-1\", \"vpce-2\"]\nvpc_ids = [\"vpc-1\"]\n\
         service_role_arn = \"{account}/firn\"\ntags = {{ cost_center = \"4711\" }}\n"
    );
    let server = Server::start(&moto.endpoint(), ("id", "secret"), &settings).await?;
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/terraform/modules/tenant-lake");
    let module = module.canonicalize()?;
    let print =
        ["tenant", "provision", "acme", "--terraform", "--module", module.to_str().context("a path")?];
    let call = firn_stdout(server.firn.client(print))?;
    std::fs::write(dir.path().join("main.tf"), call)?;
    std::fs::write(dir.path().join("provider.tf"), provider(&moto.endpoint()))?;
    assert!(terraform(&["fmt", "-check", "main.tf"])?.status.success(), "the call is formatted");

    let plugins = std::env::var(PLUGINS).ok().map(|folder| format!("-plugin-dir={folder}"));
    let mut init = vec!["init", "-input=false"];
    init.extend(plugins.as_deref());
    let run = |args: &[&str]| -> Result<()> {
        let output = terraform(args)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "terraform {args:?}: {}\n{out}\n{err}", output.status);
        Ok(())
    };
    run(&init)?;
    run(&["apply", "-input=false", "-auto-approve", "-no-color"])?;
    // 2 would mean that there are changes.
    run(&["plan", "-input=false", "-detailed-exitcode", "-no-color"])?;
    let plan = server.provision(&["--plan"])?;
    assert_eq!(changes(&plan, "same"), plan["steps"].as_array().context("steps")?.len(), "{plan}");

    // With the rule for TLS Moto refuses to show any object, whatever the condition, so that comes last.
    let server =
        Server::start(&moto.endpoint(), ("id", "secret"), &format!("{settings}require_tls = true\n")).await?;
    std::fs::write(dir.path().join("main.tf"), firn_stdout(server.firn.client(print))?)?;
    assert_eq!(change_of(&server.provision(&["--plan"])?, "policy"), "change");
    run(&["apply", "-input=false", "-auto-approve", "-no-color", "-refresh=false"])?;
    assert_eq!(change_of(&server.provision(&["--plan"])?, "policy"), "same");
    Ok(())
}

fn provider(endpoint: &str) -> String {
    let services = ["s3", "iam", "sts", "kms", "ec2"].map(|name| format!("    {name} = \"{endpoint}\"\n"));
    format!(
        "provider \"aws\" {{\n  region = \"{REGION}\"\n  access_key = \"id\"\n  secret_key = \"secret\"\n  \
         s3_use_path_style = true\n  skip_credentials_validation = true\n  skip_metadata_api_check = true\n  \
         skip_requesting_account_id = true\n  endpoints {{\n{}  }}\n}}\n",
        services.concat()
    )
}
